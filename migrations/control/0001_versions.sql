-- The revision of each application's tables in a home: that of the built-in tables, followed by those of the requested
-- applications that have tables there, as in "0003, agents 0001". No row for a home that has not been created.
CREATE FUNCTION control.versions(homes text[], applications text[] DEFAULT '{}')
RETURNS TABLE (home text, version text) LANGUAGE plpgsql STABLE AS $$
DECLARE
    application text;
    at text;
BEGIN
    FOREACH home IN ARRAY homes LOOP
        IF to_regclass(format('%I.alembic_version', home)) IS NOT NULL THEN
            BEGIN
                EXECUTE format('SELECT version_num FROM %I.alembic_version', home) INTO version;
                FOREACH application IN ARRAY applications LOOP
                    IF to_regclass(format('%I.%I', home, 'alembic_version_' || application)) IS NOT NULL THEN
                        EXECUTE format('SELECT version_num FROM %I.%I', home, 'alembic_version_' || application) INTO at;
                        version := version || ', ' || application || ' ' || at;
                    END IF;
                END LOOP;
                RETURN NEXT;
            EXCEPTION WHEN undefined_table THEN
                NULL;  -- It was erased just now.
            END;
        END IF;
    END LOOP;
END $$;
