\set runner random(1, 6000)
SELECT t.*, r.*, m.* FROM runner_tokens t INNER JOIN runners r ON t.runner_id = r.id LEFT JOIN runner_managers m ON t.runner_id = m.runner_id AND m.system_id = '' WHERE t.runner_id = :runner AND t.state = 2 LIMIT 1;
