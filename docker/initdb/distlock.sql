-- Run once, in the database POSTGRES_DB, when the data directory is made.
CREATE EXTENSION distlock;
