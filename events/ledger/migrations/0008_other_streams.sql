-- A decision may rest on another stream as it stood: an order that names a deal is placed, or refused,
-- by what became of the deal. Its version is confirmed under the lock, as the absence of a stream was.

-- One group of commands, in the order given; commands of one stream stand together.
--   settings_*  the company stream on which the whole group was decided
--   c_*         one entry a command. c_verdict: 'appended', 'refused', or 'precondition' (only to
--               be confirmed, never stored). c_other, c_other_version: another stream that the
--               decision rests on and the version that it had, 0 where it did not exist.
--               c_expected null: no version is expected, the unique constraint alone decides.
--               c_reached: the stream's version after the command, if all is as it was decided.
--               c_no_such_stream: of a refusal, whether the command's own stream does not exist.
--               c_before, c_n: events of the group before the command's own, and its own.
--   e_*         one entry an event, the first command's events first; e_command says whose.
--   k_*         keys that subjects get with this group.
-- status answers per command: its verdict, or 'duplicate' (its key has an outcome), or 'conflict'
-- (decide again). 'stale' for all: settings or keys changed since, nothing was written.
-- All plans are meant to be generic: arrays of any length, every look-up by an index.
CREATE FUNCTION ledger.append(
    settings_stream uuid, settings_version bigint,
    c_command text[], c_id uuid[], c_correlation uuid[], c_causation uuid[],
    c_actor text[], c_kind text[], c_key text[], c_hash bytea[],
    c_stream_type text[], c_stream uuid[], c_expected bigint[], c_reached bigint[],
    c_occurred timestamptz[], c_verdict text[], c_rule text[], c_detail text[], c_fields text[],
    c_no_such_stream boolean[], c_other uuid[], c_other_version bigint[], c_before int[], c_n int[],
    e_command int[], e_id uuid[], e_type text[], e_schema int[], e_payload bytea[],
    e_version bigint[],
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
    repeats    int[];
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

    SELECT array_agg(i) INTO repeats FROM generate_series(1, n) AS i
     WHERE (SELECT o.version FROM ledger.outcomes o WHERE o.actor = c_actor[i] AND o.key = c_key[i])
           IS NOT NULL;
    IF repeats IS NULL AND NOT EXISTS (
        SELECT FROM generate_series(1, n) AS i
         WHERE c_expected[i] <> CASE
                   WHEN c_stream[i] = c_stream[i - 1] THEN c_reached[i - 1]
                   ELSE coalesce((SELECT x.version FROM ledger.events x
                                   WHERE x.stream_id = c_stream[i]
                                   ORDER BY x.version DESC LIMIT 1), 0)
               END
            OR c_other_version[i] <> coalesce((SELECT x.version FROM ledger.events x
                                                WHERE x.stream_id = c_other[i]
                                                ORDER BY x.version DESC LIMIT 1), 0)
    ) THEN
        status := c_verdict;
        versions := c_reached;
        SELECT array_agg(p + k) INTO e_position FROM generate_series(1, cardinality(e_id)) AS k;
        SELECT array_agg(CASE WHEN c_n[i] > 0 THEN p + c_before[i] + 1 END),
               array_agg(p + c_before[i] + c_n[i])
          INTO firsts, after FROM generate_series(1, n) AS i;
    ELSE
        -- An array that is first assigned at 3 begins at 3, and would not line up with the others.
        firsts := array_fill(NULL::bigint, ARRAY[n]);
        e_position := array_fill(NULL::bigint, ARRAY[cardinality(e_id)]);
        FOR i IN 1..n LOOP
            IF stream IS DISTINCT FROM c_stream[i] THEN
                stream := c_stream[i];
                broken := false;
                current := coalesce((SELECT x.version FROM ledger.events x WHERE x.stream_id = stream
                                      ORDER BY x.version DESC LIMIT 1), 0);
            END IF;
            IF i = ANY (repeats) THEN
                status[i] := 'duplicate';
                broken := true;
            ELSIF broken OR c_expected[i] <> current OR c_other_version[i] <> coalesce(
                (SELECT x.version FROM ledger.events x WHERE x.stream_id = c_other[i]
                  ORDER BY x.version DESC LIMIT 1), 0
            ) THEN
                status[i] := 'conflict';
                broken := true;
            ELSE
                status[i] := c_verdict[i];
                IF c_n[i] > 0 THEN
                    firsts[i] := p + 1;
                    FOR k IN 1..c_n[i] LOOP
                        p := p + 1;
                        e_position[c_before[i] + k] := p;
                    END LOOP;
                    current := c_reached[i];
                END IF;
            END IF;
            versions[i] := current;
            after[i] := p;
        END LOOP;
    END IF;

    IF cardinality(k_subject) > 0 THEN
        INSERT INTO vault.keys SELECT * FROM unnest(k_subject, k_wrapped);
    END IF;
    -- Subscripts are several times cheaper here than an unnest of many arrays.
    INSERT INTO ledger.events
    SELECT e_position[k], e_id[k], c_stream_type[e_command[k]], c_stream[e_command[k]],
           e_version[k], c_occurred[e_command[k]], recorded, c_actor[e_command[k]],
           c_kind[e_command[k]], c_id[e_command[k]], c_correlation[e_command[k]],
           c_causation[e_command[k]], e_type[k], e_schema[k], e_payload[k]
      FROM generate_series(1, cardinality(e_id)) AS k
     WHERE e_position[k] IS NOT NULL;
    INSERT INTO ledger.outcomes
    SELECT c_actor[i], c_key[i], c_kind[i], c_command[i], c_id[i], c_correlation[i], c_hash[i],
           c_stream_type[i], c_stream[i], status[i], c_rule[i], c_detail[i],
           string_to_array(c_fields[i], ' '), versions[i],
           firsts[i], firsts[i] + c_n[i] - 1, after[i], c_occurred[i], recorded,
           c_no_such_stream[i]
      FROM generate_series(1, n) AS i
     WHERE status[i] IN ('appended', 'refused');
END $$;

-- For processes of the version before, which may still run beside those of this one.
CREATE OR REPLACE FUNCTION ledger.append(
    settings_stream uuid, settings_version bigint,
    c_command text[], c_id uuid[], c_correlation uuid[], c_causation uuid[],
    c_actor text[], c_kind text[], c_key text[], c_hash bytea[],
    c_stream_type text[], c_stream uuid[], c_expected bigint[], c_reached bigint[],
    c_occurred timestamptz[], c_verdict text[], c_rule text[], c_detail text[], c_fields text[],
    c_no_such_stream boolean[], c_absent uuid[], c_before int[], c_n int[],
    e_command int[], e_id uuid[], e_type text[], e_schema int[], e_payload bytea[],
    e_version bigint[],
    k_subject uuid[], k_wrapped bytea[],
    OUT status text[], OUT versions bigint[], OUT firsts bigint[], OUT after bigint[],
    OUT recorded timestamptz
) LANGUAGE sql VOLATILE AS $$
SELECT * FROM ledger.append(
    settings_stream, settings_version, c_command, c_id, c_correlation, c_causation,
    c_actor, c_kind, c_key, c_hash, c_stream_type, c_stream, c_expected, c_reached,
    c_occurred, c_verdict, c_rule, c_detail, c_fields, c_no_such_stream, c_absent,
    (SELECT array_agg(CASE WHEN one IS NOT NULL THEN 0::bigint END ORDER BY place)
       FROM unnest(c_absent) WITH ORDINALITY AS u (one, place)),
    c_before, c_n, e_command, e_id, e_type, e_schema, e_payload, e_version, k_subject, k_wrapped
)
$$;
