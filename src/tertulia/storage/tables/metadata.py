"""What all tables share: one metadata, predictable constraint names, the usual columns."""

from sqlalchemy import Column, DateTime, MetaData, Uuid, func

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def id_column() -> Column[object]:
    """Return a primary key made by `domain.ids.new_id`."""
    return Column("id", Uuid(), primary_key=True)


def moment(name: str, *, nullable: bool = False, now: bool = True) -> Column[object]:
    """Return a timestamp with time zone, by the database's clock unless `now` is off."""
    default = func.now() if now and not nullable else None
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=default)
