-- What Grafana may read, granted anew after each migration. No person, no token, no tax number, no payload, no audit body.
GRANT USAGE ON SCHEMA public TO grafana;
GRANT SELECT ON
    host, lab, instrument, agent, agent_status, metering,
    usage_stream, usage_session, unbooked_use,
    charge, statement, payment,
    reward_run, reward_result,
    alert, anomaly, anomaly_decision, due
TO grafana;
GRANT SELECT (org_id, kind, state, name_zh, name_en) ON org TO grafana;
GRANT SELECT (quarantine_id, topic, reason, times, first_at, last_at, replayed_at) ON quarantine TO grafana;
GRANT SELECT (agent_id, stream, seq, received_at) ON usage_conflict TO grafana;
