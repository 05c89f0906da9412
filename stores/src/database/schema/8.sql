-- Whose request it was, once its record is erased or about to be; null = it is not.
ALTER TABLE records ADD COLUMN erased TEXT;

-- Lines of the log that are to be erased, and when, Unix milliseconds: a request, and every word on it.
CREATE TABLE expiring (
    seq        INTEGER PRIMARY KEY,
    request_id TEXT    NOT NULL,
    due_ms     INTEGER NOT NULL
) STRICT;
CREATE INDEX expiring_by_time ON expiring (due_ms);

-- Lines that are being overwritten: the length of the payload, and what is to stand in its place. What a killed process
-- left here is overwritten again at the next start.
CREATE TABLE erasing (
    seq    INTEGER PRIMARY KEY,
    length INTEGER NOT NULL,
    stays  BLOB    NOT NULL
) STRICT;
