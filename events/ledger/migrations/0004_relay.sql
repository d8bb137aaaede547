-- Whoever leads takes a higher epoch; a checkpoint moves for the leader of this epoch alone.
ALTER TABLE progress.checkpoints ADD COLUMN epoch bigint NOT NULL DEFAULT 0;
