-- What vendors may bill beyond the cost, for calls that were cut off and of which nobody said what they used.
ALTER TABLE used ADD COLUMN beyond_nanos INTEGER NOT NULL DEFAULT 0;
ALTER TABLE used_tags ADD COLUMN beyond_nanos INTEGER NOT NULL DEFAULT 0;
