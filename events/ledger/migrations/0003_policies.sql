-- What a policy wanted done and a rule refused: visible until an operator has it tried again.
CREATE TABLE progress.parked_policies (
    policy     text NOT NULL,
    event_id   uuid NOT NULL,
    position   bigint NOT NULL,
    stream_id  uuid NOT NULL,
    command    text NOT NULL,
    rule       text NOT NULL,
    detail     text NOT NULL,
    attempts   int NOT NULL DEFAULT 1,
    parked_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    retried_by text,
    PRIMARY KEY (policy, event_id)
);
GRANT SELECT, INSERT, UPDATE, DELETE ON progress.parked_policies TO pledge_service;
