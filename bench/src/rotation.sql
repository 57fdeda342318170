\set runner random(1, 6000)
\set now 1795000000000 + random(1, 1000000000)
SELECT t.*, r.* FROM runner_tokens t INNER JOIN runners r ON t.runner_id = r.id WHERE t.runner_id = :runner AND t.state = 2 LIMIT 1;
SELECT id AS token_id FROM runner_tokens WHERE runner_id = :runner AND state = 2 \gset
SELECT * FROM runner_tokens WHERE runner_id = :runner AND (state = 1 OR id = :token_id);
BEGIN;
SELECT * FROM runners WHERE id = :runner FOR NO KEY UPDATE;
SELECT * FROM runner_tokens WHERE runner_id = :runner AND (state = 1 OR id = :token_id);
SELECT COUNT(*) FROM runner_tokens WHERE runner_id = :runner AND predecessor_id IS NOT NULL AND created_at > :now::bigint - 600000 AND created_at <= :now::bigint;
SELECT generation FROM runner_tokens WHERE runner_id = :runner AND (state IN (3, 4) AND superseded_at < :now::bigint OR state = 5 AND (expires_at < :now::bigint OR expires_at IS NULL AND retired_at < :now::bigint - 86400000)) ORDER BY generation DESC LIMIT 1 OFFSET 200;
DELETE FROM runner_tokens WHERE runner_id = :runner AND (state IN (3, 4) AND superseded_at < :now::bigint - 2592000000 OR state = 5 AND (expires_at < :now::bigint - 2592000000 OR expires_at IS NULL AND retired_at < :now::bigint - 2678400000)) AND generation NOT IN (SELECT MAX(generation) FROM runner_tokens WHERE runner_id = :runner);
UPDATE runner_tokens SET state = 5, retired_at = :now::bigint, sealed = NULL, sealed_key_id = NULL WHERE runner_id = :runner AND state = 1;
SELECT MAX(generation) + 1 AS generation FROM runner_tokens WHERE runner_id = :runner \gset
SELECT * FROM application_settings WHERE id = 1;
INSERT INTO runner_tokens (runner_id, generation, digest, state, predecessor_id, created_at, sealed, sealed_key_id) VALUES (:runner, :generation, sha256(gen_random_uuid()::text::bytea), 1, :token_id, :now::bigint, sha256('sealed'), '0123456789abcdef') RETURNING *;
INSERT INTO runner_token_events (runner_id, generation, kind, grade, system_id, ip_address, hour, first_at, last_at, count) VALUES (:runner, :generation, 2, 1, '', '', :now::bigint / 3600000, :now::bigint, :now::bigint, 1) ON CONFLICT (runner_id, generation, kind, system_id, ip_address, hour) DO UPDATE SET count = runner_token_events.count + 1 RETURNING *;
DELETE FROM runner_token_events WHERE runner_id = :runner AND (last_at < :now::bigint - 2592000000 OR grade = 1 AND id <= (SELECT id FROM runner_token_events WHERE runner_id = :runner AND grade = 1 ORDER BY id DESC LIMIT 1 OFFSET 1000));
COMMIT;
