"""The dashboard of the county: what was used, charged, stated, paid and rewarded. Reads the ledger in PostgreSQL.

Instants are BIGINT milliseconds there and amounts integer fen; both are converted here, for display only.
"""

from typing import Any

from dashboards.panels import YUAN, Variable, bars, dashboard, number, table
from dashboards.sources import POSTGRES

_IN_RANGE = "BETWEEN $__unixEpochFrom() * 1000::bigint AND $__unixEpochTo() * 1000::bigint"
_SHANGHAI = "AT TIME ZONE 'Asia/Shanghai'"
# What a second source told as well counts once.
_COUNTED = """s.session_id NOT IN (SELECT a.subject_id FROM anomaly a
                        LEFT JOIN anomaly_decision d ON d.anomaly_id = a.anomaly_id AND d.verdict = 'cleared'
                        WHERE a.rule = 'second_source' AND d.anomaly_id IS NULL)"""


def use_and_money_dashboard() -> dict[str, Any]:
    """Sessions and hours by host and month, charges, statements with what is unpaid, granted rewards."""
    return dashboard(
        "openlab-use-and-money",
        "使用与费用 · Use and money",
        [
            number(
                "运行中 · Sessions open now",
                "Sessions that have begun and not ended.",
                """SELECT count(*) AS sessions FROM usage_session s JOIN instrument i USING (instrument_id)
                   WHERE s.ended_at IS NULL AND i.host_id IN ($host)""",
            ),
            number(
                "运行小时 · Running hours",
                "Metered running time of sessions that ended in the time range.",
                f"""SELECT coalesce(sum(s.odo_running_last_ms - s.odo_running_first_ms), 0) / 3600000.0 AS hours
                    FROM usage_session s JOIN instrument i USING (instrument_id)
                    WHERE s.ended_at {_IN_RANGE} AND i.host_id IN ($host) AND {_COUNTED}""",
                unit="h",
            ),
            number(
                "收费 · Charged",
                "Charges recorded in the time range, reversals included with their sign.",
                f"""SELECT coalesce(sum(total_fen), 0) / 100.0 AS yuan FROM charge
                    WHERE recorded_at {_IN_RANGE} AND host_id IN ($host)""",
                unit=YUAN,
            ),
            number(
                "未分类使用 · Use that nobody booked",
                "Hours that wait for a lab manager to say whose they were. Not billed until then.",
                """SELECT coalesce(sum(u.running_ms), 0) / 3600000.0 AS hours
                   FROM unbooked_use u JOIN instrument i USING (instrument_id)
                   WHERE u.classified_at IS NULL AND i.host_id IN ($host)""",
                unit="h",
            ),
            bars(
                "各月运行小时 · Running hours by host and month",
                "Sessions by the month of their end (Asia/Shanghai).",
                f"""SELECT to_char(to_timestamp((s.ended_at - 1) / 1000.0) {_SHANGHAI}, 'YYYY-MM') || ' ' || i.host_id
                        AS host_month, sum(s.odo_running_last_ms - s.odo_running_first_ms) / 3600000.0 AS hours
                    FROM usage_session s JOIN instrument i USING (instrument_id)
                    WHERE s.ended_at {_IN_RANGE} AND i.host_id IN ($host) AND {_COUNTED}
                    GROUP BY 1 ORDER BY 1""",
                unit="h",
            ),
            bars(
                "各月收费 · Charges by host and posting month",
                "Sum of all revisions, so a reversed charge counts nothing.",
                f"""SELECT posting_month || ' ' || host_id AS host_month, sum(total_fen) / 100.0 AS yuan
                    FROM charge WHERE recorded_at {_IN_RANGE} AND host_id IN ($host) GROUP BY 1 ORDER BY 1""",
                unit=YUAN,
            ),
            table(
                "结算单 · Statements",
                "Final statements with what was paid against them.",
                """SELECT st.number, st.host_id AS host, o.name_zh AS payer, st.month, st.kind,
                          st.total_fen / 100.0 AS total, coalesce(p.paid_fen, 0) / 100.0 AS paid,
                          (st.total_fen - coalesce(p.paid_fen, 0)) / 100.0 AS owing,
                          to_timestamp(st.finalized_at / 1000.0) AS finalized
                   FROM statement st JOIN org o ON o.org_id = st.payer_org
                   LEFT JOIN (SELECT statement_id, sum(amount_fen) AS paid_fen FROM payment GROUP BY 1) p
                        USING (statement_id)
                   WHERE st.state = 'final' AND st.host_id IN ($host) ORDER BY st.finalized_at DESC LIMIT 500""",
                units={"total": YUAN, "paid": YUAN, "owing": YUAN},
            ),
            table(
                "奖励 · Rewards granted",
                "Locked runs only: what is prepared is not granted, what is withdrawn never was.",
                """SELECT r.period_kind AS period, r.period_first AS first_month, r.run_no, r.policy_id AS policy,
                          r.policy_version AS version, x.host_id AS host, x.base_fen / 100.0 AS base, x.grade,
                          x.reward_fen / 100.0 AS reward, x.granted_before_fen / 100.0 AS granted_before,
                          x.payable_fen / 100.0 AS payable, x.carried_out_fen / 100.0 AS carried_out,
                          to_timestamp(r.closed_at / 1000.0) AS locked
                   FROM reward_run r JOIN reward_result x USING (run_id)
                   WHERE r.state = 'locked' AND x.host_id IN ($host) ORDER BY r.closed_at DESC, x.host_id LIMIT 500""",
                units=dict.fromkeys(("base", "reward", "granted_before", "payable", "carried_out"), YUAN),
            ),
        ],
        variables=[Variable("host", "单位 · Host", POSTGRES, "SELECT host_id FROM host ORDER BY 1")],
        time_from="now/y",
        refresh="5m",
    )
