-- Calls that were begun for requests whose end is not in the log yet. What an earlier process left here after its log
-- was read to the end was cut off by its death.
CREATE TABLE begun (
    seq        INTEGER PRIMARY KEY,
    request_id TEXT    NOT NULL,
    content    BLOB    NOT NULL
) STRICT;
CREATE INDEX begun_by_request ON begun (request_id);
