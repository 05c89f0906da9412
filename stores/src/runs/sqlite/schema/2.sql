-- How many runs of a tenant wait is asked whenever it wants another one.
CREATE INDEX runs_queued ON runs (tenant) WHERE state = 'queued';
