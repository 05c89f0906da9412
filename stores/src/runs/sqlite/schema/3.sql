-- When a run that has ended is forgotten before others of its age; NULL = with them.
ALTER TABLE runs ADD COLUMN forget_ms INTEGER;
CREATE INDEX runs_forgotten ON runs (forget_ms) WHERE forget_ms IS NOT NULL;
