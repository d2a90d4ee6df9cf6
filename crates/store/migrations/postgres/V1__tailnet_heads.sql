-- Why: a commit names the sequence number that its draft was made from. This row is where that
-- number is compared and counted up, and it is what a writer locks, so writers of one tailnet
-- agree without a leader. It is not the tailnet's object: that is a row of `tailnets`. The server
-- itself has a head too: here and in every table its rows have the tailnet 0, which no tailnet has.
-- Every row of every table carries a checksum of all its other values, made and verified by code
-- (`src/checksum.rs`): neither engine notices by itself that a stored value has changed.
CREATE TABLE heads (
    tailnet BIGINT NOT NULL PRIMARY KEY,
    seq     BIGINT NOT NULL,
    checksum BIGINT NOT NULL
);
