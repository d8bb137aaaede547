-- The ledger: events and outcomes, both for ever; the vault: keys, which may go.

DO $$ BEGIN
    CREATE ROLE pledge_service NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;  -- roles belong to the whole cluster, another database may have made it
END $$;

DO $$ BEGIN
    IF NOT pg_has_role(current_user, 'pledge_service', 'MEMBER') THEN
        EXECUTE format('GRANT pledge_service TO %I', current_user);
    END IF;
EXCEPTION WHEN unique_violation THEN
    NULL;  -- another database's migration was faster
END $$;

CREATE TABLE ledger.identity (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    ledger_id  uuid NOT NULL DEFAULT gen_random_uuid(),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO ledger.identity DEFAULT VALUES;

CREATE TABLE ledger.events (
    position       bigint PRIMARY KEY CHECK (position > 0),
    event_id       uuid NOT NULL,
    stream_type    text NOT NULL,
    stream_id      uuid NOT NULL,
    version        bigint NOT NULL,
    occurred_at    timestamptz NOT NULL,
    recorded_at    timestamptz NOT NULL,
    actor          text NOT NULL,
    actor_kind     text NOT NULL,
    command_id     uuid NOT NULL,
    correlation_id uuid NOT NULL,
    causation_id   uuid,
    type           text NOT NULL,
    schema_version smallint NOT NULL,
    payload        bytea NOT NULL,
    CONSTRAINT one_version_each UNIQUE (stream_id, version)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.2, autovacuum_analyze_scale_factor = 0.05);

CREATE INDEX events_by_correlation ON ledger.events (correlation_id);

CREATE TABLE ledger.outcomes (
    actor          text COLLATE "C" NOT NULL,
    key            text COLLATE "C" NOT NULL,
    actor_kind     text NOT NULL,
    command        text NOT NULL,
    command_id     uuid NOT NULL,
    correlation_id uuid NOT NULL,
    body_hash      bytea NOT NULL,
    stream_type    text NOT NULL,
    stream_id      uuid NOT NULL,
    status         text NOT NULL CHECK (status IN ('appended', 'refused')),
    rule           text,
    detail         text,
    fields         text[],
    version        bigint NOT NULL,
    first_position bigint,
    last_position  bigint,
    after_position bigint NOT NULL,
    occurred_at    timestamptz NOT NULL,
    recorded_at    timestamptz NOT NULL,
    PRIMARY KEY (actor, key),
    CHECK ((status = 'refused') = (rule IS NOT NULL))
);
CREATE INDEX refusals ON ledger.outcomes (recorded_at, command_id) WHERE status = 'refused';

CREATE TABLE vault.keys (
    subject uuid PRIMARY KEY,
    wrapped bytea NOT NULL
);
CREATE TABLE vault.master (
    one          boolean PRIMARY KEY DEFAULT true CHECK (one),
    master_check bytea NOT NULL
);

CREATE FUNCTION ledger.immutable() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ledger.% is written once and never changed', TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.events
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.immutable();
CREATE TRIGGER never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.outcomes
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.immutable();
CREATE TRIGGER never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.identity
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.immutable();

-- One group of commands, in the order given; commands of one stream stand together.
--   settings_*  the company stream on which the whole group was decided
--   c_*         one entry a command. c_verdict: 'appended', 'refused', or 'precondition' (only to
--               be confirmed, never stored). c_absent: a stream whose absence the refusal rests on.
--               c_expected null: no version is expected, the unique constraint alone decides.
--   e_*         one entry an event, the first command's events first; c_n says how many each has.
--   k_*         keys that subjects get with this group.
-- status answers per command: its verdict, or 'duplicate' (its key has an outcome), or 'conflict'
-- (decide again). 'stale' for all: settings or keys changed since, nothing was written.
CREATE FUNCTION ledger.append(
    settings_stream uuid, settings_version bigint,
    c_command text[], c_id uuid[], c_correlation uuid[], c_causation uuid[],
    c_actor text[], c_kind text[], c_key text[], c_hash bytea[],
    c_stream_type text[], c_stream uuid[], c_expected bigint[], c_occurred timestamptz[],
    c_verdict text[], c_rule text[], c_detail text[], c_fields text[], c_absent uuid[], c_n int[],
    e_id uuid[], e_type text[], e_schema int[], e_payload bytea[], e_version bigint[],
    k_subject uuid[], k_wrapped bytea[],
    OUT status text[], OUT versions bigint[], OUT firsts bigint[], OUT after bigint[],
    OUT recorded timestamptz
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    n       int := cardinality(c_id);
    p       bigint;
    current bigint;
    stream  uuid;
    broken  boolean;
    e       int := 0;
    repeats    bigint[];
    currents   bigint[];
    e_command  int[];
    e_position bigint[];
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed'
       OR current_setting('synchronous_commit') <> 'on' THEN
        RAISE EXCEPTION 'the ledger is appended to at read committed with synchronous_commit on';
    END IF;
    -- Each statement below takes its own snapshot, so all of them see what the last holder of the
    -- lock committed; no other transaction can hand out positions until this one has committed.
    PERFORM pg_advisory_xact_lock(7201, 1);

    SELECT x.position, x.recorded_at INTO p, recorded
      FROM ledger.events x ORDER BY x.position DESC LIMIT 1;
    p := coalesce(p, 0);
    recorded := greatest(clock_timestamp(), recorded);

    IF settings_version IS NOT NULL THEN
        SELECT x.version INTO current
          FROM ledger.events x WHERE x.stream_id = settings_stream ORDER BY x.version DESC LIMIT 1;
        IF coalesce(current, 0) <> settings_version THEN
            status := array_fill('stale'::text, ARRAY[n]);
            RETURN;
        END IF;
    END IF;
    IF cardinality(k_subject) > 0 AND EXISTS (SELECT FROM vault.keys WHERE subject = ANY (k_subject)) THEN
        status := array_fill('stale'::text, ARRAY[n]);
        RETURN;
    END IF;

    SELECT array_agg(u.i) INTO repeats
      FROM unnest(c_actor, c_key) WITH ORDINALITY AS u (actor, key, i)
      JOIN ledger.outcomes o USING (actor, key);
    SELECT array_agg(coalesce((
               SELECT x.version FROM ledger.events x
                WHERE x.stream_id = u.stream ORDER BY x.version DESC LIMIT 1
           ), 0) ORDER BY u.i) INTO currents
      FROM unnest(c_stream) WITH ORDINALITY AS u (stream, i);
    -- An array that is first assigned at 3 begins at 3, and would not line up with the others.
    firsts := array_fill(NULL::bigint, ARRAY[n]);
    e_command := array_fill(NULL::int, ARRAY[cardinality(e_id)]);
    e_position := array_fill(NULL::bigint, ARRAY[cardinality(e_id)]);
    FOR i IN 1..n LOOP
        IF stream IS DISTINCT FROM c_stream[i] THEN
            stream := c_stream[i];
            broken := false;
            current := currents[i];
        END IF;
        IF i = ANY (repeats) THEN
            status[i] := 'duplicate';
            broken := true;
        ELSIF broken OR c_expected[i] <> current OR (
            c_absent[i] IS NOT NULL
            AND EXISTS (SELECT FROM ledger.events x WHERE x.stream_id = c_absent[i])
        ) THEN
            status[i] := 'conflict';
            broken := true;
        ELSE
            status[i] := c_verdict[i];
            IF c_verdict[i] = 'appended' AND c_n[i] > 0 THEN
                firsts[i] := p + 1;
                FOR k IN 1..c_n[i] LOOP
                    p := p + 1;
                    e_command[e + k] := i;
                    e_position[e + k] := p;
                END LOOP;
                current := e_version[e + c_n[i]];
            END IF;
        END IF;
        versions[i] := current;
        after[i] := p;
        e := e + c_n[i];
    END LOOP;

    IF cardinality(k_subject) > 0 THEN
        INSERT INTO vault.keys SELECT * FROM unnest(k_subject, k_wrapped);
    END IF;
    INSERT INTO ledger.events
    SELECT u.position, u.id, c_stream_type[u.i], c_stream[u.i], u.version, c_occurred[u.i], recorded,
           c_actor[u.i], c_kind[u.i], c_id[u.i], c_correlation[u.i], c_causation[u.i],
           u.type, u.schema, u.payload
      FROM unnest(e_command, e_position, e_id, e_version, e_type, e_schema, e_payload)
           AS u (i, position, id, version, type, schema, payload)
     WHERE u.i IS NOT NULL;
    INSERT INTO ledger.outcomes
    SELECT u.actor, u.key, u.kind, u.command, u.id, u.correlation, u.hash, u.stream_type, u.stream,
           u.status, u.rule, u.detail, string_to_array(u.fields, ' '), u.version,
           u.first, CASE WHEN u.first IS NOT NULL THEN u.first + u.n - 1 END, u.after,
           u.occurred, recorded
      FROM unnest(c_actor, c_key, c_kind, c_command, c_id, c_correlation, c_hash, c_stream_type,
                  c_stream, status, c_rule, c_detail, c_fields, versions, firsts, c_n, after,
                  c_occurred)
           AS u (actor, key, kind, command, id, correlation, hash, stream_type,
                 stream, status, rule, detail, fields, version, first, n, after, occurred)
     WHERE u.status IN ('appended', 'refused');
END $$;

CREATE FUNCTION ledger.as_json(payload bytea) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN convert_from(payload, 'UTF8')::jsonb;
EXCEPTION WHEN others THEN
    RETURN NULL;  -- bytes that another application of the library wrote
END $$;
CREATE VIEW ledger.readable_events AS
SELECT position, event_id, stream_type, stream_id, version, occurred_at, recorded_at, actor,
       actor_kind, command_id, correlation_id, causation_id, type, schema_version,
       ledger.as_json(payload) AS payload
  FROM ledger.events;

-- How far each reader of the ledger has come; moved by compare-and-swap only.
CREATE SCHEMA progress;
CREATE TABLE progress.checkpoints (
    name       text NOT NULL,
    partition  int NOT NULL,
    shape      text NOT NULL,
    ledger_id  uuid NOT NULL,
    position   bigint NOT NULL,
    event_id   uuid,
    halted     text,
    halted_at  bigint,
    moved_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, partition)
);
CREATE TABLE progress.parked (
    name      text NOT NULL,
    stream_id uuid NOT NULL,
    position  bigint NOT NULL,
    error     text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, stream_id)
);
CREATE TABLE progress.skipped (
    name       text NOT NULL,
    position   bigint NOT NULL,
    actor      text NOT NULL,
    reason     text NOT NULL,
    skipped_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, position)
);
GRANT USAGE ON SCHEMA progress TO pledge_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON progress.checkpoints, progress.parked TO pledge_service;
GRANT SELECT, INSERT ON progress.skipped TO pledge_service;

GRANT USAGE ON SCHEMA ledger, vault TO pledge_service;
GRANT SELECT ON ALL TABLES IN SCHEMA ledger TO pledge_service;
GRANT INSERT ON ledger.events, ledger.outcomes TO pledge_service;
GRANT SELECT, INSERT, DELETE ON vault.keys TO pledge_service;
GRANT SELECT, INSERT ON vault.master TO pledge_service;
