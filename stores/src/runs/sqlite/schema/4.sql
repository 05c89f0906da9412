-- Plans that no run names any more are forgotten, and those of late are not: a run is pinned to its plan only after the
-- plan was put here. The text stands last, so that nothing else is looked for behind it.
ALTER TABLE runs ADD COLUMN plan TEXT;
UPDATE runs SET plan = json_extract(head, '$.plan') WHERE json_valid(head);
CREATE INDEX runs_pinned ON runs (plan) WHERE plan IS NOT NULL;
CREATE TABLE plans_kept (
    hash   TEXT PRIMARY KEY,
    put_ms INTEGER NOT NULL,
    plan   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO plans_kept (hash, put_ms, plan) SELECT hash, 0, plan FROM plans;
DROP TABLE plans;
ALTER TABLE plans_kept RENAME TO plans;
CREATE INDEX plans_put ON plans (put_ms);
