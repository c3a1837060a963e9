-- What tenants use, by meter and period: see docs/metering.md. Tenant traffic has no right on the tables. Its events are in
-- control.usage_events, and control.usage has the sums: one row for each meter and period with all that the tenant used,
-- whose customer is '', and one for each of its customers. A key is stored as a digest, and never deleted.

CREATE FUNCTION isola.period_end(starts_at timestamptz, period text) RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
RETURN (starts_at AT TIME ZONE 'UTC' + ('1 ' || period)::interval) AT TIME ZONE 'UTC';

CREATE FUNCTION isola.usage_digest(value text) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN substring(sha256(convert_to(value, 'UTF8')), 1, 16);

-- The digest of what a client sent: without a moment, it is the same at any time.
CREATE FUNCTION isola.usage_content(
    meter text, quantity bigint, customer text, at timestamptz, properties jsonb
) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN isola.usage_digest(
    jsonb_build_array(meter, quantity, customer, extract(epoch FROM at), coalesce(properties, '{}'))::text
);

-- Held, shared, by transactions that count something of a tenant, and by the one that erases it.
CREATE FUNCTION isola.usage_lock(tenant uuid) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN hashtextextended('isola.usage ' || tenant, 0);

-- A tenant's limit of a meter at a moment: its override's until that ends, otherwise its plan's. NULL if there is none.
CREATE FUNCTION isola.meter_limit(tenant uuid, meter text, at timestamptz) RETURNS bigint LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT CASE WHEN o.tenant_id IS NULL THEN (p.limits ->> meter_limit.meter)::bigint ELSE o.at_most END
    FROM control.tenants t
    JOIN control.plans p ON p.name = t.plan
    LEFT JOIN control.meter_overrides o
        ON o.tenant_id = t.id AND o.meter = meter_limit.meter AND (o.ends_at IS NULL OR o.ends_at > meter_limit.at)
    WHERE t.id = meter_limit.tenant;
END;

-- What a tenant lets its customers use, by the tiers that it gave them: an object by customer, of objects by meter; NULL for
-- all customers. Those without a tier, or without caps, are not in it. Its tiers are in its home.
CREATE FUNCTION isola.customer_caps(tenant uuid, customers text[]) RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    home text;
    caps jsonb;
BEGIN
    SELECT t.home INTO home FROM control.tenants t WHERE t.id = tenant;
    EXECUTE format(
        'SELECT coalesce(jsonb_object_agg(c.name, t.usage_caps), ''{}'')
        FROM %1$I.tier_customers c JOIN %1$I.tiers t ON t.id = c.tier_id
        WHERE t.usage_caps <> ''{}'' AND ($1 IS NULL OR c.name = ANY ($1))', home
    ) INTO caps USING customers;
    RETURN caps;
END $$;

-- Raises IS010 for the first event that cannot be counted, with its field and its place, from 0.
CREATE FUNCTION isola.check_events(
    meters text[], quantities bigint[], customers text[], moments timestamptz[], keys text[], properties jsonb[]
) RETURNS void LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wrong record;
BEGIN
    IF cardinality(meters) NOT BETWEEN 1 AND 1000 THEN
        RAISE EXCEPTION 'expected 1 to 1000 events' USING ERRCODE = 'IS010', COLUMN = 'events';
    END IF;
    SELECT c.place, c.field, c.kind, c.property INTO wrong
    FROM (
        SELECT e.place, m.kind, m.property, CASE
            WHEN m.name IS NULL THEN 'meter'
            WHEN e.quantity IS NULL OR e.quantity NOT BETWEEN 1 AND 9007199254740991 THEN 'quantity'
            WHEN m.kind IN ('count', 'unique') AND e.quantity <> 1 THEN 'quantity'
            WHEN length(e.customer) NOT BETWEEN 1 AND 200 OR e.customer ~ '[\u0001-\u001F\u007F-\u009F]' THEN 'customer'
            -- Hours: the length of a day depends on the time zone of the session.
            WHEN e.at NOT BETWEEN now() - interval '840 hours' AND now() + interval '5 minutes' THEN 'at'
            WHEN length(e.key) NOT BETWEEN 1 AND 255 THEN 'idempotencyKey'
            WHEN jsonb_typeof(e.properties) <> 'object' OR octet_length(e.properties::text) > 2000 THEN 'properties'
            WHEN m.kind = 'unique' AND jsonb_typeof(e.properties -> m.property) IN ('string', 'number') IS NOT TRUE
                THEN 'properties'
        END AS field
        FROM unnest(meters, quantities, customers, moments, keys, properties)
            WITH ORDINALITY e (meter, quantity, customer, at, key, properties, place)
        LEFT JOIN control.meters m ON m.name = e.meter
    ) c
    WHERE c.field IS NOT NULL ORDER BY c.place LIMIT 1;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'IS010', COLUMN = wrong.field, TABLE = (wrong.place - 1)::text, MESSAGE = CASE wrong.field
        WHEN 'meter' THEN 'there is no such meter'
        WHEN 'quantity' THEN CASE
            WHEN wrong.kind IN ('count', 'unique') THEN 'expected 1, as the meter counts'
            ELSE 'expected 1 to 9007199254740991'
        END
        WHEN 'customer' THEN 'expected 1 to 200 characters, none of them control characters'
        WHEN 'at' THEN 'expected a moment of the last 35 days, or at most 5 minutes ahead'
        WHEN 'idempotencyKey' THEN 'expected 1 to 255 characters'
        ELSE CASE
            WHEN wrong.kind = 'unique' THEN 'expected an object of at most 2000 bytes with a text or a number in ' || wrong.property
            ELSE 'expected an object of at most 2000 bytes'
        END
    END;
END $$;

-- Raises IS011 if a key was used for another event, with the place of the first one.
CREATE FUNCTION isola.check_keys(
    tenant uuid, meters text[], quantities bigint[], customers text[], moments timestamptz[], keys text[],
    properties jsonb[]
) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wrong bigint;
BEGIN
    SELECT min(e.place) INTO wrong
    FROM unnest(meters, quantities, customers, moments, keys, properties)
        WITH ORDINALITY e (meter, quantity, customer, at, key, properties, place)
    JOIN control.usage_keys k ON k.tenant_id = check_keys.tenant AND k.key = isola.usage_digest(e.key)
    WHERE k.content <> isola.usage_content(e.meter, e.quantity, e.customer, e.at, e.properties);
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'the key was used for another event'
        USING ERRCODE = 'IS011', COLUMN = 'idempotencyKey', TABLE = (wrong - 1)::text;
    END IF;
END $$;

-- Counts events of the bound tenant, and returns how many: an event whose key was used before is not counted again. Without
-- a moment, an event is of now. ``within_limit``: raises IS003 if the tenant would exceed a limit by them, and IS012 if one of
-- its customers would exceed a cap of their tier. Whatever is raised, nothing is counted.
--
-- The rows of control.usage are locked until the transaction ends, in an order that does not depend on the events. So a
-- limit is exact: of several transactions that each take what is left, all but one are refused.
CREATE FUNCTION isola.record_usage(
    meters text[], quantities bigint[], customers text[], moments timestamptz[], keys text[], properties jsonb[],
    within_limit boolean
) RETURNS bigint LANGUAGE plpgsql
-- Sessions plan nested loops only, which take the square of the events of a batch.
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error SET enable_hashjoin = on AS $$
#variable_conflict use_column
DECLARE
    tenant uuid;
    counter record;
    counted bigint := 0;
    caps jsonb := '{}';
BEGIN
    -- Whether the tenant is active is seen after that: the transaction that erases a deleted one holds the same lock.
    PERFORM pg_advisory_xact_lock_shared(isola.usage_lock(isola.proved_tenant_id()));
    tenant := isola.bound_tenant();
    PERFORM isola.check_events(meters, quantities, customers, moments, keys, properties);
    IF array_remove(customers, NULL) <> '{}' THEN
        caps := isola.customer_caps(tenant, customers);
    END IF;
    FOR counter IN
        WITH given AS MATERIALIZED (
            SELECT e.*, m.kind, m.property, date_trunc(m.period, coalesce(e.at, now()), 'UTC') AS starts_at,
                date_trunc(m.period, now(), 'UTC') AS present,
                isola.usage_digest(e.key) AS digest
            FROM unnest(meters, quantities, customers, moments, keys, record_usage.properties)
                WITH ORDINALITY e (meter, quantity, customer, at, key, properties, place)
            JOIN control.meters m ON m.name = e.meter
        ),
        fresh AS (
            INSERT INTO control.usage_keys (tenant_id, key, content)
            SELECT tenant, g.digest, isola.usage_content(g.meter, g.quantity, g.customer, g.at, g.properties)
            FROM given g WHERE g.digest IS NOT NULL ORDER BY g.digest, g.place
            ON CONFLICT DO NOTHING
            RETURNING key
        ),
        once AS MATERIALIZED (
            SELECT * FROM given WHERE digest IS NULL
            UNION ALL
            (SELECT DISTINCT ON (g.digest) g.* FROM given g JOIN fresh f ON f.key = g.digest ORDER BY g.digest, g.place)
        ),
        stored AS (
            INSERT INTO control.usage_events (tenant_id, meter, customer, at, quantity, properties)
            SELECT tenant, o.meter, o.customer, coalesce(o.at, now()), o.quantity, coalesce(o.properties, '{}') FROM once o
        ),
        parts AS MATERIALIZED (
            SELECT *, '' AS whose FROM once
            UNION ALL
            SELECT *, customer FROM once WHERE customer IS NOT NULL
        ),
        different AS (
            INSERT INTO control.usage_values (tenant_id, meter, customer, starts_at, value)
            SELECT DISTINCT tenant, p.meter, p.whose, p.starts_at, isola.usage_digest(CASE jsonb_typeof(v.value)
                -- 1 and 1.0 are one number.
                WHEN 'number' THEN trim_scale(v.value::numeric)::text ELSE v.value::text
            END)
            FROM parts p CROSS JOIN LATERAL (SELECT p.properties -> p.property AS value) v
            WHERE p.kind = 'unique' ORDER BY 2, 3, 4, 5
            ON CONFLICT DO NOTHING
            RETURNING meter, customer, starts_at
        ),
        added AS MATERIALIZED (
            SELECT p.meter, p.whose, p.starts_at, p.kind, count(*) AS events,
                count(*) FILTER (WHERE p.starts_at < p.present) AS late, max(p.place) AS place,
                CASE p.kind
                    WHEN 'maximum' THEN max(p.quantity)
                    WHEN 'unique' THEN (
                        SELECT count(*) FROM different d
                        WHERE d.meter = p.meter AND d.customer = p.whose AND d.starts_at = p.starts_at
                    )
                    ELSE sum(p.quantity)::bigint
                END AS quantity
            FROM parts p GROUP BY p.meter, p.whose, p.starts_at, p.kind
        ),
        counters AS (
            INSERT INTO control.usage AS u (tenant_id, meter, customer, starts_at, quantity, events, late)
            SELECT tenant, a.meter, a.whose, a.starts_at, a.quantity, a.events, a.late
            FROM added a ORDER BY a.meter, a.whose, a.starts_at
            ON CONFLICT (tenant_id, meter, customer, starts_at) DO UPDATE SET
                quantity = CASE
                    WHEN (SELECT m.kind FROM control.meters m WHERE m.name = u.meter) = 'maximum'
                    THEN greatest(u.quantity, excluded.quantity)
                    ELSE u.quantity + excluded.quantity
                END,
                events = u.events + excluded.events, late = u.late + excluded.late, changed_at = now()
            RETURNING u.meter, u.customer, u.starts_at, u.quantity, u.warned
        )
        SELECT c.meter, c.customer, c.starts_at, c.quantity, c.warned, a.kind, a.quantity AS added, a.events, a.place,
            (caps -> c.customer ->> c.meter)::bigint AS cap
        FROM counters c JOIN added a ON a.meter = c.meter AND a.whose = c.customer AND a.starts_at = c.starts_at
        WHERE c.customer = '' OR caps -> c.customer ? c.meter
    LOOP
        IF counter.customer = '' THEN
            counted := counted + counter.events;
            PERFORM isola.check_sum(counter.quantity, counter.place);
        END IF;
        PERFORM isola.keep_limit(
            tenant, counter.meter, counter.customer, counter.starts_at, counter.quantity, counter.warned,
            -- What adds nothing is no use of what is left.
            within_limit AND counter.added > 0,
            CASE counter.kind WHEN 'maximum' THEN counter.added ELSE counter.quantity END,
            -- The rows are locked: what the limit is now, it is until the end of the statement.
            CASE counter.customer
                WHEN '' THEN isola.meter_limit(tenant, counter.meter, clock_timestamp()) ELSE counter.cap
            END
        );
    END LOOP;
    IF counted < cardinality(meters) THEN
        PERFORM isola.check_keys(tenant, meters, quantities, customers, moments, keys, properties);
    END IF;
    RETURN counted;
END $$;

-- Raises IS010 if the sum of a period is no longer an integer that every reader of JSON represents exactly. No sum of a
-- customer exceeds that of its tenant.
CREATE FUNCTION isola.check_sum(quantity bigint, place bigint) RETURNS void LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF quantity > 9007199254740991 THEN
        RAISE EXCEPTION 'expected the sum of the period to stay at most 9007199254740991'
        USING ERRCODE = 'IS010', COLUMN = 'quantity', TABLE = (place - 1)::text;
    END IF;
END $$;

-- Raises IS003 if a counter of a tenant exceeds the limit, and IS012 if one of a customer does, if that is to be refused.
-- Otherwise notes in the tenant's log that it has reached 80 or 100 % of the limit, each once in a period.
CREATE FUNCTION isola.keep_limit(
    tenant uuid, meter text, customer text, starts_at timestamptz, quantity bigint, warned integer, within_limit boolean,
    asked bigint, most bigint
) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    percent int;
BEGIN
    IF most IS NULL THEN
        RETURN;
    ELSIF within_limit AND asked > most THEN
        RAISE EXCEPTION 'the limit is reached' USING
            ERRCODE = CASE customer WHEN '' THEN 'IS003' ELSE 'IS012' END, TABLE = meter, CONSTRAINT = most;
    END IF;
    percent := CASE WHEN quantity >= most THEN 100 WHEN quantity >= most * 0.8 THEN 80 ELSE 0 END;
    IF percent <= warned THEN
        RETURN;
    END IF;
    UPDATE control.usage u SET warned = percent
    WHERE u.tenant_id = tenant AND u.meter = keep_limit.meter AND u.customer = keep_limit.customer
      AND u.starts_at = keep_limit.starts_at;
    PERFORM isola.audit_note(
        'control.usage'::regclass, 'control', '[0:3]={usage_warning,"{}",meter:,meter}'::text[], NULL,
        ARRAY[jsonb_strip_nulls(jsonb_build_object(
            'meter', meter, 'customer', nullif(customer, ''), 'starts_at', starts_at, 'percent', percent,
            'quantity', quantity, 'limit', most
        ))]
    );
END $$;

-- Counts one event of the bound tenant within its limit, in this transaction: if either is rolled back, so is the other.
-- Returns whether it was counted now; an event with the same key was counted before otherwise. Raises IS003 beyond the limit,
-- and IS012 beyond the cap of the customer.
CREATE FUNCTION isola.consume(
    meter text, quantity bigint DEFAULT 1, key text DEFAULT NULL, customer text DEFAULT NULL, properties jsonb DEFAULT NULL
) RETURNS boolean LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
RETURN isola.record_usage(
    ARRAY[meter], ARRAY[quantity], ARRAY[customer], ARRAY[NULL::timestamptz], ARRAY[key], ARRAY[properties], true
) > 0;

-- Rows of a subject that consumes a meter: one for each, however they are inserted. The arguments are the meter and, where the
-- rows have one, the column with the customer who uses it. Those that the owner of the tables writes, who moves tenants, were
-- counted before.
CREATE FUNCTION isola.consume_rows() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
    used record;
BEGIN
    IF isola.audit_of_owner(TG_RELID) THEN
        RETURN NULL;
    END IF;
    FOR used IN EXECUTE format(
        'SELECT %s AS customer, count(*) AS quantity FROM new_rows GROUP BY 1', coalesce(quote_ident(TG_ARGV[1]), 'NULL::text')
    ) LOOP
        PERFORM isola.consume(TG_ARGV[0], used.quantity, NULL, used.customer);
    END LOOP;
    RETURN NULL;
END $$;

-- All meters, with the limit of the bound tenant, NULL if there is none, and what it used of the present period. ``until`` is
-- the end of an override.
CREATE FUNCTION isola.limits()
RETURNS TABLE (id text, kind text, period text, allowed bigint, until timestamptz, used bigint, resets_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
BEGIN ATOMIC
    SELECT m.name, m.kind, m.period, isola.meter_limit(t.id, m.name, statement_timestamp()), o.ends_at, coalesce(u.quantity, 0),
        isola.period_end(date_trunc(m.period, statement_timestamp(), 'UTC'), m.period)
    FROM control.tenants t
    CROSS JOIN control.meters m
    LEFT JOIN control.meter_overrides o
        ON o.tenant_id = t.id AND o.meter = m.name AND o.ends_at > statement_timestamp()
    LEFT JOIN control.usage u
        ON u.tenant_id = t.id AND u.meter = m.name AND u.customer = ''
        AND u.starts_at = date_trunc(m.period, statement_timestamp(), 'UTC')
    WHERE t.id = (SELECT isola.bound_tenant());
END;

-- What one customer of the bound tenant has used of a meter in the present period, and the cap of its tier, NULL if there is
-- none.
CREATE FUNCTION isola.customer_usage(meter text, customer text) RETURNS TABLE (used bigint, allowed bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
BEGIN ATOMIC
    SELECT (
        SELECT coalesce(sum(u.quantity), 0)::bigint
        FROM control.meters m JOIN control.usage u
            ON u.meter = m.name AND u.starts_at = date_trunc(m.period, statement_timestamp(), 'UTC')
        WHERE m.name = customer_usage.meter AND u.customer = nullif(customer_usage.customer, '')
          AND u.tenant_id = (SELECT isola.bound_tenant())
    ), (isola.customer_caps(isola.bound_tenant(), ARRAY[customer]) -> customer ->> meter)::bigint;
END;

-- What the bound tenant has used in the periods that began in the last 400 days, in all and by its customers. The forecast is
-- what it will have used at the end of the period if it goes on like that; NULL until a hundredth of the period has passed.
-- Present periods have the limit of the tenant, and of a customer the cap of its tier.
CREATE FUNCTION isola.usage()
RETURNS TABLE (
    id uuid, meter text, customer text, starts_at timestamptz, ends_at timestamptz, quantity bigint, events bigint,
    late_events bigint, changed_at timestamptz, forecast bigint, allowed bigint
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = error
BEGIN ATOMIC
    SELECT u.id, u.meter, nullif(u.customer, ''), u.starts_at, e.ends_at, u.quantity, u.events, u.late, u.changed_at, CASE
        WHEN e.ends_at <= statement_timestamp() OR m.kind IN ('maximum', 'unique') THEN u.quantity
        WHEN p.passed >= 0.01 THEN least(round(u.quantity / least(p.passed, 1)), 9007199254740991)::bigint
    END, CASE
        WHEN e.ends_at <= statement_timestamp() THEN NULL
        WHEN u.customer = '' THEN isola.meter_limit(u.tenant_id, u.meter, statement_timestamp())
        ELSE ((SELECT isola.customer_caps(isola.bound_tenant(), NULL)) -> u.customer ->> u.meter)::bigint
    END
    FROM control.usage u
    JOIN control.meters m ON m.name = u.meter
    CROSS JOIN LATERAL (SELECT isola.period_end(u.starts_at, m.period) AS ends_at) e
    CROSS JOIN LATERAL (
        SELECT extract(epoch FROM statement_timestamp() - u.starts_at) / extract(epoch FROM e.ends_at - u.starts_at) AS passed
    ) p
    WHERE u.tenant_id = (SELECT isola.bound_tenant()) AND u.starts_at > statement_timestamp() - interval '9600 hours';
END;
