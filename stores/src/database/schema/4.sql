-- Image tokens, part of the input like cached ones. What was counted before knows of none.
ALTER TABLE used ADD COLUMN image_input_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE used_tags ADD COLUMN image_input_tokens INTEGER NOT NULL DEFAULT 0;
