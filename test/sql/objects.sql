-- What the extension consists of: every object has a comment, no function an odd property.
\set ECHO none
\getenv abs_srcdir PG_ABS_SRCDIR
\set helpers :abs_srcdir '/regress_helpers.sql'
\i :helpers
\set ECHO all
CREATE TEMP VIEW member AS
	SELECT classid, objid FROM pg_depend
	WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass
		AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'distlock');
SELECT pg_describe_object(classid, objid, 0) AS object FROM member
WHERE NOT (classid = 'pg_type'::regclass AND EXISTS (SELECT FROM pg_type t WHERE t.oid = objid AND (t.typtype <> 'c' OR EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind <> 'c'))))
ORDER BY pg_describe_object(classid, objid, 0) COLLATE "C";
-- nothing else is in the schema
SELECT pg_describe_object(classid, objid, 0)
FROM (SELECT 'pg_class'::regclass AS classid, oid AS objid FROM pg_class WHERE relnamespace = 'distlock'::regnamespace AND relkind NOT IN ('i', 'c')
	UNION ALL SELECT 'pg_proc'::regclass, oid FROM pg_proc WHERE pronamespace = 'distlock'::regnamespace) o
WHERE (classid, objid) NOT IN (SELECT classid, objid FROM member);
-- without a comment: nothing (a type that goes with a relation has the relation's)
SELECT pg_describe_object(classid, objid, 0) FROM member m
WHERE NOT EXISTS (SELECT FROM pg_description d WHERE d.classoid = m.classid AND d.objoid = m.objid AND d.objsubid = 0)
	AND NOT (classid = 'pg_type'::regclass AND EXISTS (SELECT FROM pg_type t WHERE t.oid = objid
		AND (t.typcategory = 'A' OR EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind <> 'c'))));
SELECT a.attrelid::regclass, a.attname FROM pg_attribute a
WHERE a.attrelid = 'distlock.lock'::regclass AND a.attnum > 0 AND col_description(a.attrelid, a.attnum) IS NULL;
-- functions: volatile, parallel unsafe, not strict, not leakproof, invoker's, no settings, no overloads
SELECT oid::regprocedure FROM pg_proc
WHERE pronamespace = 'distlock'::regnamespace AND prokind = 'f'
	AND (provolatile <> 'v' OR proparallel <> 'u' OR proisstrict OR proleakproof OR prosecdef OR proconfig IS NOT NULL);
SELECT proname FROM pg_proc WHERE pronamespace = 'distlock'::regnamespace GROUP BY proname HAVING count(*) > 1;
-- every argument has a name, every error of ours is in a comment
SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'distlock'::regnamespace AND pronargs > 0 AND '' = ANY (proargnames);
SELECT proname FROM pg_proc
WHERE pronamespace = 'distlock'::regnamespace AND proname NOT IN ('queue', 'transaction_holders') AND proname NOT LIKE 'read\_%'
	AND obj_description(oid, 'pg_proc') !~ 'Errors: .*[0-9A-Z]{5}';
-- signatures
\pset format unaligned
\pset tuples_only on
SELECT proname AS function, pg_get_function_arguments(oid) AS arguments, CASE prokind WHEN 'f' THEN pg_get_function_result(oid) END AS result
FROM pg_proc WHERE pronamespace = 'distlock'::regnamespace ORDER BY proname COLLATE "C";
\pset format aligned
\pset tuples_only off
-- the type, the table, what is dumped
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'distlock.retry'::regclass ORDER BY attnum;
SELECT indexrelid::regclass, indisunique, indisprimary FROM pg_index WHERE indrelid = 'distlock.lock'::regclass;
SELECT attname FROM pg_attribute WHERE attrelid = 'distlock.lock'::regclass AND attname = 'key' AND attcollation = '"C"'::regcollation;
SELECT unnest(extconfig)::regclass AS dumped FROM pg_extension WHERE extname = 'distlock';
SELECT seqrelid::regclass, seqcache, seqcycle FROM pg_sequence WHERE seqrelid::regclass::text LIKE 'distlock.%' ORDER BY seqrelid::regclass::text COLLATE "C";
