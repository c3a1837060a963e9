-- At which revision the tables of each application are in a home: that of what ships, and behind it those of the
-- applications asked for that have tables there, as in "0003, agents 0001". No row for a home that has not been made.
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
