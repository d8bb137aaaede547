"""What people and things are called in the sample company, and what is said there."""

from __future__ import annotations

from typing import NamedTuple


class Rep(NamedTuple):
    """Somebody who sells in one region, until they leave: a working day, or never."""

    name: str
    region: str
    leaves: int | None = None


REPS = (
    Rep("anna.berg", "north"),
    Rep("tom.becker", "north", leaves=442),
    Rep("claire.moreau", "south"),
    Rep("marco.rossi", "south"),
    Rep("wang.fang", "asia"),
    Rep("li.jun", "asia"),
)
LEAD_OF_SALES = "ingrid.dahl"
KEY_ACCOUNTS = "owen.pryce"
MARKETING = "marketing"
ACCOUNTS = "accounts"
WAREHOUSE = "warehouse"
SERVICE_DESK = "service-desk"
TECHNICIANS = {
    "north": ("lena.voss", "jan.tamm"),
    "south": ("paolo.serra", "lena.voss"),
    "asia": ("chen.wei", "zhou.ting"),
}
CURRENCIES = {"north": "EUR", "south": "EUR", "asia": "CNY"}
RATE = {"EUR": 1, "CNY": 8}
"""What a price in euros is multiplied by; prices are round, not exchanged by the day."""


class Product(NamedTuple):
    """Something sold: its price in euros, and what it is called in both languages."""

    code: str
    price: int
    english: str
    chinese: str


PRODUCTS = (
    Product("CS-2", 240, "Cold-chain sensor", "冷链传感器"),
    Product("CG-10", 1_850, "Cold-chain gateway", "冷链网关"),
    Product("WM-4", 9_400, "Ward monitor", "病房监护仪"),
    Product("BA-7", 21_900, "Bench analyser", "台式分析仪"),
    Product("PR-1", 420, "Replacement probe", "备用探头"),
    Product("LB-5", 3_150, "Label printer", "标签打印机"),
    Product("VS-1", 7_200, "Validation service", "验证服务"),
    Product("BR-3", 15_600, "Batch record software", "批次记录软件"),
)

REGIONS = ("north", "south", "asia")
INDUSTRIES = {
    "logistics": ("Logistics", "物流"),
    "health": ("Hospital Group", "医院"),
    "pharma": ("Pharma", "制药"),
    "food": ("Foods", "食品"),
    "electronics": ("Devices", "电子"),
    "biotech": ("Biotech", "生物科技"),
}
STEMS = (
    "Nordwind", "Baltic", "Orion", "Meridian", "Kestrel", "Fjord", "Alster", "Lumen", "Vesta",
    "Corvus", "Halden", "Isar", "Jura", "Larkfield", "Montclair", "Novara", "Ostara", "Priory",
    "Quayside", "Riviera", "Solent", "Tamar", "Umbria", "Verdane", "Westmark", "Ypsilon",
)  # fmt: skip
PLACES = (
    "Hamburg", "Leeds", "Lyon", "Torino", "Aarhus", "Gdynia", "Porto", "Graz", "Bergen", "Ghent",
    "Nantes", "Verona",
)  # fmt: skip
CHINESE_PLACES = (
    "杭州", "宁波", "成都", "苏州", "青岛", "厦门", "武汉", "西安", "南京", "长沙", "无锡", "珠海",
)  # fmt: skip
CHINESE_STEMS = (
    "青山", "海通", "锦江", "康泰", "瑞丰", "华盛", "东篱", "明远", "安和", "云帆", "博雅", "天成",
    "恒信", "嘉禾", "启明", "双鹿",
)  # fmt: skip

SOURCES = ("trade fair", "web form", "referral", "paid search", "social", "cold call")
ROLES = ("buyer", "head of operations", "quality", "finance", "user")
LOST_BECAUSE = ("price", "competitor", "no budget", "timing", "no answer")
NOT_WORTH_IT = ("no budget", "no need", "wrong number", "student")
CARRIERS = ("DHL", "DB Schenker", "SF Express", "Kuehne+Nagel")
DISPUTED = (
    "Part of it came late; they pay when that is settled.",
    "The invoice names another price than the quote.",
    "Two units were broken on arrival.",
)


class Speech(NamedTuple):
    """One language's sentences; ``{0}`` is a product."""

    first_call: str
    talks: tuple[str, ...]
    need: str
    delivery: str
    manual: str
    training: str
    price: str
    price_topic: str
    taken_back: str
    late: str
    tickets: tuple[tuple[str, str], ...]
    replies: tuple[str, ...]
    done: str
    complaint_promise: str


ENGLISH = Speech(
    first_call="First call with {0}: needs, budget and who decides.",
    talks=(
        "They are content; the next budget round is in autumn.",
        "Asked how others solve calibration. Sent them two references.",
        "A new head of purchasing; introduced ourselves.",
        "They compare with another supplier and want our terms again.",
        "Talked through the open invoices and when they will be paid.",
        "Visited the site; they would need about a third more than today.",
    ),
    need="Wants to know what {0} costs and how soon it can be there.",
    delivery="{0} delivered",
    manual="Printed manuals for {0} in their language",
    training="A day of training on {0} for the whole shift",
    price="{0} at this price until they decide",
    price_topic="price of {0}",
    taken_back="Told them that it does not hold.",
    late="Part of it came after the day that was promised.",
    tickets=(
        ("repair", "{0} reads wrong values"),
        ("question", "How to export from {0}"),
        ("complaint", "{0} came late and without a manual"),
        ("exchange", "{0}: wrong variant delivered"),
        ("request", "Second licence for {0}"),
    ),
    replies=(
        "I look at it today and call you before five.",
        "A colleague comes on Thursday at nine.",
        "Could you send us the serial number?",
    ),
    done="Works again; checked together on the phone.",
    complaint_promise="A credit note for the trouble with {0}",
)
CHINESE = Speech(
    first_call="与{0}首次通话:需求、预算和决策人。",
    talks=(
        "客户满意,下一轮预算在秋季。",
        "询问其他客户如何做校准,已发送两个案例。",
        "采购负责人更换,已重新拜访。",
        "正在与另一家供应商比较,希望再看我们的条件。",
        "核对未付发票及付款时间。",
        "现场拜访,预计需求比现在多三分之一。",
    ),
    need="想了解{0}的价格和交货期。",
    delivery="{0}交货",
    manual="{0}中文用户手册随货交付",
    training="为全班组提供一天{0}培训",
    price="在其决定之前{0}保持此价格",
    price_topic="{0}的价格",
    taken_back="已告知客户此价格不再有效。",
    late="部分货物晚于承诺日期到达。",
    tickets=(
        ("repair", "{0}读数漂移"),
        ("question", "{0}如何导出数据"),
        ("complaint", "{0}到货晚且缺少手册"),
        ("exchange", "{0}型号发错"),
        ("request", "增加一个{0}许可"),
    ),
    replies=("今天处理,五点前给您回电。", "同事周四九点上门。", "请发送序列号。"),
    done="已恢复正常,电话中共同确认。",
    complaint_promise="就{0}问题开具折让单",
)
