-- A reader may follow the topic instead of the ledger: then it has a checkpoint in each partition.
ALTER TABLE progress.checkpoints
    ADD COLUMN source text NOT NULL DEFAULT 'ledger',
    ADD COLUMN next_offset bigint,
    ADD COLUMN watermark bigint;

-- How far each reader is as a whole: everything up to the position was taken.
CREATE VIEW progress.readers AS
SELECT name, min(greatest(position, watermark)) AS position,
       max(greatest(position, watermark)) AS highest,
       (array_agg(halted ORDER BY halted_at) FILTER (WHERE halted IS NOT NULL))[1] AS halted,
       (array_agg(halted_at ORDER BY halted_at) FILTER (WHERE halted IS NOT NULL))[1] AS halted_at,
       min(moved_at) AS moved_at, min(source) AS source
  FROM progress.checkpoints GROUP BY name;
GRANT SELECT ON progress.readers TO pledge_service;
