"""The dashboard of whoever is on duty: what is away, what was set aside, what waits. Reads the ledger in PostgreSQL.

Everything on it ought to be empty or zero; docs/operations.md says what to do about each panel.
"""

from typing import Any

from dashboards.panels import alarm, dashboard, number, table

_NOW_MS = "(extract(epoch FROM now()) * 1000)"


def health_dashboard() -> dict[str, Any]:
    """Agents offline, streams that stand still, quarantine and conflicts, alerts, and the worker's backlog."""
    return dashboard(
        "openlab-health",
        "健康 · Health",
        [
            alarm(
                "离线代理 · Agents offline",
                "Registered agents that said good-bye, were reported lost by the broker, or were never heard of.",
                """SELECT count(*) AS agents FROM agent a LEFT JOIN agent_status s USING (agent_id)
                   WHERE a.revoked_at IS NULL AND NOT coalesce(s.online, false)""",
            ),
            alarm(
                "待处理告警 · Alerts open",
                "Alerts that nobody has closed.",
                "SELECT count(*) AS alerts FROM alert WHERE open_slot IS NOT NULL",
            ),
            alarm(
                "隔离消息 · Messages in quarantine",
                "Messages that could not be taken in and were not replayed since.",
                "SELECT count(*) AS messages FROM quarantine WHERE replayed_at IS NULL",
            ),
            alarm(
                "冲突记录 · Conflicting records",
                "Second contents that came under a key already taken: a doubled agent, or tampering.",
                "SELECT count(*) AS records FROM usage_conflict",
            ),
            alarm(
                "积压分钟 · Oldest due work, minutes late",
                "How long the worker is behind. Red from 15 minutes on: is a worker running?",
                f"SELECT coalesce(max({_NOW_MS} - due_at), 0) / 60000.0 AS minutes FROM due WHERE due_at <= {_NOW_MS}",
                unit="m",
                red_from=15,
            ),
            alarm(
                "失败任务 · Due work that failed",
                "Work that was tried and did not succeed; the worker tries again.",
                "SELECT count(*) AS subjects FROM due WHERE last_error <> ''",
            ),
            alarm(
                "未决异常 · Anomalies undecided",
                "Findings that no person has cleared or confirmed. Those that block keep a charge out of rewards.",
                """SELECT count(*) AS anomalies FROM anomaly a
                   WHERE NOT EXISTS (SELECT 1 FROM anomaly_decision d WHERE d.anomaly_id = a.anomaly_id)""",
            ),
            number(
                "待处理任务 · Due work by now",
                "How much the worker could do at this moment.",
                f"SELECT count(*) AS subjects FROM due WHERE due_at <= {_NOW_MS}",
            ),
            table(
                "离线代理明细 · Who is offline",
                "`queued` is what the agent said it still keeps: nothing of it is lost.",
                """SELECT a.agent_id AS agent, a.host_id AS host, coalesce(s.online, false) AS online,
                          to_timestamp(s.heard_at / 1000.0) AS heard, s.queued, s.dropped, s.skew_ms, s.software
                   FROM agent a LEFT JOIN agent_status s USING (agent_id)
                   WHERE a.revoked_at IS NULL AND NOT coalesce(s.online, false)
                   ORDER BY s.heard_at NULLS FIRST, a.agent_id LIMIT 200""",
            ),
            table(
                "告警明细 · Which alerts",
                "Newest first.",
                """SELECT rule, subject, owner, detail, times, to_timestamp(first_at / 1000.0) AS first,
                          to_timestamp(last_at / 1000.0) AS last
                   FROM alert WHERE open_slot IS NOT NULL ORDER BY last_at DESC LIMIT 200""",
                width=12,
            ),
            table(
                "隔离明细 · Quarantine by reason",
                "By reason, with the topic of one of them.",
                """SELECT reason, count(*) AS messages, sum(times) AS deliveries, max(topic) AS example,
                          to_timestamp(max(last_at) / 1000.0) AS last
                   FROM quarantine WHERE replayed_at IS NULL GROUP BY reason ORDER BY 2 DESC""",
                width=12,
            ),
            table(
                "数据流 · Streams",
                "Quietest first: usage streams of agents in service, up to which record everything is committed.",
                """SELECT u.agent_id AS agent, u.stream, u.upto, u.chained_upto,
                          to_timestamp(u.last_seen_at / 1000.0) AS last_seen
                   FROM usage_stream u JOIN agent a USING (agent_id)
                   WHERE u.kind = 'usage' AND a.revoked_at IS NULL ORDER BY u.last_seen_at LIMIT 100""",
                width=12,
            ),
            table(
                "任务明细 · What failed and why",
                "With the last error the worker met.",
                """SELECT kind, subject_id AS subject, to_timestamp(due_at / 1000.0) AS due, attempts, last_error
                   FROM due WHERE last_error <> '' ORDER BY due_at LIMIT 100""",
                width=12,
            ),
        ],
        time_from="now-24h",
        refresh="1m",
    )
