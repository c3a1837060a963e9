-- At which revision each home is; no row for a home that has not been made.
CREATE FUNCTION control.versions(homes text[]) RETURNS TABLE (home text, version text) LANGUAGE plpgsql STABLE AS $$
BEGIN
    FOREACH home IN ARRAY homes LOOP
        IF to_regclass(format('%I.alembic_version', home)) IS NOT NULL THEN
            BEGIN
                EXECUTE format('SELECT version_num FROM %I.alembic_version', home) INTO version;
                RETURN NEXT;
            EXCEPTION WHEN undefined_table THEN
                NULL;  -- It was erased just now.
            END;
        END IF;
    END LOOP;
END $$;
