//! What both engines promise: every test runs on each.

mod cold;
mod commit;
mod exclusive;
mod job;
mod kinds;
mod logs;
mod many;
mod moment;
mod presence;
mod secret;
mod server_wide;
mod tailnet;
pub(crate) mod transfer;
mod unique;

macro_rules! contract {
    ($($module:ident: $($name:ident,)*;)*) => {
        mod sqlite {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    crate::database::on_sqlite(super::$module::$name).await;
                }
            )*)*
        }
        mod postgres {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    crate::database::on_postgres(super::$module::$name).await;
                }
            )*)*
        }
    };
}

contract! {
    commit:
        a_commit_is_there_after_reopening,
        a_stale_base_is_a_conflict_and_writes_nothing,
        creating_a_tailnet_twice_is_a_conflict,
        a_body_comes_back_byte_for_byte,
        a_batch_that_no_database_could_store_is_malformed,
        a_commit_is_found_by_its_id,
        a_write_goes_on_when_its_caller_stops_waiting,
        a_closed_store_refuses,
    ;
    kinds:
        every_kind_is_written_read_and_removed,
        every_kind_comes_back_from_a_backup,
        an_object_of_another_tailnet_is_not_replaced,
    ;
    cold:
        a_cold_object_is_found_until_it_is_over,
        a_cold_object_is_not_loaded_and_not_caught_up_with,
        what_is_over_is_removed_in_portions,
        only_cold_objects_expire,
    ;
    unique:
        a_taken_value_is_rejected_with_its_row_and_column,
        a_rejected_row_leaves_nothing_of_its_batch,
        a_login_is_unique_in_its_tailnet_only,
        a_value_is_free_again_after_its_row_changed_or_went,
        rows_of_one_batch_may_swap_their_values,
        a_put_without_a_column_empties_it,
    ;
    tailnet:
        an_id_of_another_tailnet_cannot_be_written_or_removed,
        a_tailnet_sees_only_its_own,
    ;
    logs:
        the_change_log_says_what_each_change_touched,
        catching_up_brings_an_old_snapshot_to_the_newest,
        catching_up_from_before_a_prune_gives_everything,
        audit_events_are_read_by_time,
        an_audit_id_used_twice_is_malformed,
        pruning_removes_what_is_old_and_keeps_the_newest_change,
        audit_events_are_pruned_by_age_and_by_number,
        a_text_is_kept_once_and_goes_by_the_time_it_was_set_last,
    ;
    job:
        a_job_is_claimed_by_one_and_gone_when_it_is_done,
        a_job_whose_claim_ran_out_is_taken_over,
        a_job_to_be_done_again_comes_when_it_is_due,
        jobs_of_a_lane_run_one_after_the_other,
        one_job_of_a_name_waits,
        two_that_claim_at_once_get_different_jobs,
        a_job_that_no_database_could_store_is_malformed,
        deliveries_are_pruned_by_age_and_nothing_else,
    ;
    presence:
        the_newest_presence_is_loaded,
        presence_of_a_clock_that_was_set_back_gives_way,
        presence_goes_with_its_device,
        presence_of_a_foreign_or_absent_device_is_passed_over,
    ;
    server_wide:
        the_server_has_a_head_and_rows_of_its_own,
        a_tailnet_begins_with_a_change_of_the_server,
        a_birth_that_is_refused_leaves_nothing,
        kinds_of_the_server_and_of_tailnets_do_not_mix,
        the_change_log_of_the_server_is_short,
    ;
    secret:
        the_first_secret_stays,
        a_secret_is_made_and_removed_with_its_object,
    ;
    moment:
        the_last_moment_stays_whatever_it_is,
    ;
    many:
        concurrent_tailnets_all_commit,
        writers_of_one_tailnet_take_turns,
        a_rejected_batch_does_not_disturb_others_of_its_group,
        a_storm_on_one_unique_value_has_one_winner,
    ;
    exclusive:
        a_second_opener_is_refused_until_the_first_closes,
        a_newer_database_is_refused,
        opening_again_changes_nothing,
    ;
    transfer:
        a_backup_restored_is_the_same_on_both_engines,
        a_restore_refuses_a_database_that_is_not_empty,
        a_file_that_changes_after_it_was_verified_leaves_nothing,
        a_restore_without_secrets_leaves_them_out,
        a_backup_is_of_one_moment,
    ;
}
