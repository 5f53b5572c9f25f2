"""What each rule of an alert means and what to do about it, in both languages. Pure; the detail of an alert is the
finder's own sentence."""

Meaning = tuple[str, str]

_EXACT: dict[str, Meaning] = {
    "agent_offline": (
        "采集终端失去联系;请检查其供电与网络,数据暂存于终端。",
        "An agent is away; see to its power and network. It keeps its records meanwhile.",
    ),
    "agent_never_heard": (
        "已登记的采集终端从未上线;请检查安装、密码与网络。",
        "A registered agent was never heard of; see to its installation, password and network.",
    ),
    "clock_skew": ("采集终端时钟有偏差;请检查对时服务。", "An agent's clock is off; see to its NTP."),
    "clock_wrong": ("采集终端时钟明显错误;请检查对时服务。", "An agent's clock is wrong; see to its NTP."),
    "usage_gap": (
        "用时记录缺号;系统会要求终端补发。",
        "Records are missing in a stream; the agent is asked for them again.",
    ),
    "usage_rows_lost": (
        "部分用时记录已无法补发;请核对该时段的使用情况。",
        "Records are lost for good; compare that time with the bookings.",
    ),
    "usage_conflict": (
        "同一记录号有两种内容;请检查是否有两台设备共用一个密码。",
        "One number came with two contents; look for two machines with one credential.",
    ),
    "use_after_stream_end": (
        "已结算的使用之后又有记录;请核对并更正。",
        "Records came for use that was settled; compare them and correct it.",
    ),
    "open_lost": (
        "使用开始的记录丢失;请按预约与详情核对该次使用。",
        "The record that opened a session is lost; compare the session with its booking.",
    ),
    "close_lost": (
        "使用结束的记录丢失;请按预约与详情核对该次使用。",
        "The record that closed a session is lost; compare the session with its booking.",
    ),
    "close_without_open": (
        "收到没有开始的结束记录;请核对该仪器的使用。",
        "A session ended that never began; look at the instrument's use.",
    ),
    "dated_too_late": (
        "终端对时前该次使用已匹配;请核对日期并更正。",
        "A session was matched before its clock was set; look at its date and correct it.",
    ),
    "session_stream_lost": (
        "仪器改由其他终端或存储上报(或已停止上报),原有使用已按最后记录结束;请核对。",
        "A session was ended at its last record: its stream is lost, or no longer about it. Look at what is missing.",
    ),
    "second_source": (
        "同一仪器的使用由两个来源上报,后者暂不计费;请停用多余的终端,并由县科技局处理该异常。",
        "Two sources tell the use of one instrument; one is not billed. Stop the one too many; an officer decides.",
    ),
    "sensor_silent": (
        "终端在线但读不到电表;请检查电表与接线。",
        "The agent is there and gets no reading; see to the meter and its cable.",
    ),
    "duplicate_identity": (
        "两台设备使用同一身份;请停用其一并更换密码。",
        "Two machines speak under one name; stop one and rotate the password.",
    ),
    "profile_differs": (
        "终端所用检测参数与现行计量关系不一致;请下发配置,或按终端所用参数登记新的计量关系。",
        "An agent goes by another profile than its metering names; publish the metering's (openlab-gateway configure),"
        " or record a metering with the agent's.",
    ),
    "not_metered": (
        "仪器的计量关系指向已停用的终端,其使用不再计量;请登记由其他终端计量。",
        "An instrument's metering names a revoked agent, so nobody counts its use; record a metering with another one.",
    ),
    "gateway_name_taken": (
        "两个网关使用同一名称,互相断开;请为每个网关设置各自的 OPENLAB_GATEWAY_NAME。",
        "Two gateways connect under one name and throw each other out; give each its own OPENLAB_GATEWAY_NAME.",
    ),
    "no_tariff": ("仪器没有生效的收费标准;请制定。", "An open instrument has no price list in force; make one."),
    "ticks_kept": (
        "旧记录未清理:清理后将无法核验;请运行 openlab verify。",
        "Old ticks stay, for the stream would not verify without them; run openlab verify.",
    ),
    "worker_failing": (
        "后台任务多次失败;请查看错误并排除原因,系统会自动重试。",
        "A piece of work failed several times; mend its cause, it is tried again by itself.",
    ),
    "reward_unpaid": (
        "已批准的奖补逾期未付;请财务办理。",
        "An approved reward run is not paid in time; finance pays it.",
    ),
    "mail_server_failing": ("邮件服务器不可用;请检查设置。", "The mail server does not take e-mails; see to it."),
    "mail_not_delivered": ("邮件未能送达;请核对邮箱地址。", "An e-mail was refused; see to the address."),
}
_BY_BEGIN: dict[str, Meaning] = {
    "quarantine_": (
        "收到无法接受的消息,已隔离保存;排除原因后可重放。",
        "A message was set aside with its bytes; mend the cause and replay it.",
    ),
    "fault_": ("采集终端报告故障;请按详情处理。", "An agent reports a fault; the detail says which."),
    "spool_lost_": (
        "采集终端的存储损坏或丢失;请核对该时段的使用情况。",
        "An agent lost its spool; compare that time with the bookings.",
    ),
    "odometer_": ("累计时间不连续;请核对该仪器的记录。", "Odometers do not fit; look at the instrument's records."),
}
_OTHER: Meaning = ("请查看详情并处理。", "Look at the detail and see to it.")


def meaning_of(rule: str) -> Meaning:
    """Return what a rule means (zh, en); a general sentence for one that is not known here."""
    if rule in _EXACT:
        return _EXACT[rule]
    return next((found for begin, found in _BY_BEGIN.items() if rule.startswith(begin)), _OTHER)
