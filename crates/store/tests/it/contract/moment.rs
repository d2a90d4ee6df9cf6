//! Moments that the server notes.

use std::sync::Arc;

use crate::database::Database;

pub(crate) async fn the_last_moment_stays_whatever_it_is(database: Arc<Database>) {
    let store = database.open().await;
    assert_eq!(store.moment("clock").await.unwrap(), None);
    let [earlier, later] =
        ["1970-01-01T00:00:01Z", "2027-06-18T12:00:00.000001Z"].map(|text| text.parse().unwrap());
    store.put_moment("clock", later).await.unwrap();
    store.put_moment("other", earlier).await.unwrap();
    store.close().await;
    let store = database.open().await;
    assert_eq!(store.moment("clock").await.unwrap(), Some(later));
    assert_eq!(store.moment("other").await.unwrap(), Some(earlier));
    // A clock may be set back.
    store.put_moment("clock", earlier).await.unwrap();
    assert_eq!(store.moment("clock").await.unwrap(), Some(earlier));
    store.close().await;
}
