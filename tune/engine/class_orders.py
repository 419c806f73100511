"""Class orders: the configurations of an ended confirmation, trained on other class orders.

They are a sweep of their own that names the confirmation, so they are never mixed with its seeds.
Each training seed also shuffles the class order.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from dynamos.errors import UserError
from dynamos.streams.names import definition_of
from results.analysis.confirmation import BASELINE, CHOSEN
from results.ledger.ledger import Ledger
from results.sweep import ORDERS_OF
from tune.engine.extension import (
    confirmations,
    first_look,
    further,
    last_look,
    refuse_unended,
    searched,
)


def class_orders(
    ledger: Ledger,
    orders: int,
    session: Mapping[str, Any],
    address: str | None = None,
    data_path: str | None = None,
) -> Ledger:
    """Return the ledger of so many class orders of a confirmation, a new one if none exists.

    Args:
        ledger: a confirmation, or a sweep, whose latest confirmation is then meant.
        orders: number of class orders, each trained once with each configuration.
        session: SweepConfig's fields for the resources.
        address: the cluster to run on; None for this machine only.
        data_path: the folder of the images, if it has changed.

    Raises UserError if no confirmation has ended, or its stream has no class orders.
    """
    if orders < 1:
        raise UserError(f"`class_orders` {orders} is out of range; it must be at least 1.")
    sweep = searched(ledger)
    while True:
        last = last_look(ledger, sweep)
        base = last.config.base
        if definition_of(base.dataset).tasks not in ("classes", "own"):
            raise UserError(f"`class_orders` {orders}: {base.dataset} has no class orders.")
        refuse_unended(last)
        if data_path is not None:
            base = base.replace(data_path=data_path)
            last.config = dataclasses.replace(last.config, base=base)
        of = first_look(sweep.looks, last.config.name)
        for there in confirmations(sweep):
            if there.record.get(ORDERS_OF) == of and there.config.seeds == orders:
                base = there.config.base.replace(data_path=base.data_path)
                there.config = dataclasses.replace(there.config, base=base, **session)
                return there
        record = {name: last.record[name] for name in (CHOSEN, BASELINE)} | {ORDERS_OF: of}
        made = further(sweep, last, orders, record, session, address)
        if made is not None:
            return made
