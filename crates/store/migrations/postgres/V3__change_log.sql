-- Why: replicas and engines that fell behind follow this log, and a commit whose answer was lost is
-- looked up here by its id. Numbers are dense per tailnet, because the head's row is locked while
-- one is taken: a follower never has to wait for a smaller number. `at` is in microseconds since
-- 1970. `touched` is a JSON list of [kind, id, "put" or "delete"].
CREATE TABLE changes (
    tailnet   BIGINT NOT NULL,
    seq       BIGINT NOT NULL,
    commit_id BYTEA NOT NULL,
    at        BIGINT NOT NULL,
    touched   TEXT NOT NULL,
    checksum BIGINT NOT NULL,
    PRIMARY KEY (tailnet, seq)
);
