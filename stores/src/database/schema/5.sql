-- Who said it for certain, beside what they call its source: nobody speaks for another. Empty for words of old.
ALTER TABLE feedback ADD COLUMN principal TEXT NOT NULL DEFAULT '';
DROP INDEX feedback_current;
CREATE UNIQUE INDEX feedback_current ON feedback (request_id, principal, source) WHERE superseded = 0;
