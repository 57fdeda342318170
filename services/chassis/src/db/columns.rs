//! Helpers for migrations, so that the definition of a table reads as the list of its columns.

use sea_orm_migration::{prelude::*, schema};

/// The length of a name, a path, an e-mail address.
pub const NAME: u32 = 255;

/// A new table with a generated `id`.
pub fn table(name: &'static str) -> TableCreateStatement {
    Table::create().table(name).col(schema::big_pk_auto("id")).to_owned()
}

/// A time: milliseconds since the Unix epoch.
pub fn time(name: &'static str) -> ColumnDef {
    schema::big_integer(name)
}

/// A time as for [`time`], or none.
pub fn time_null(name: &'static str) -> ColumnDef {
    schema::big_integer_null(name)
}

/// Rows of `table` go when the row that `column` refers to goes.
pub fn cascade(table: &'static str, column: &'static str, to: &'static str) -> ForeignKeyCreateStatement {
    foreign_key(table, column, to, ForeignKeyAction::Cascade)
}

/// Rows of `table` stay, without the reference, when the row that `column` refers to goes.
pub fn set_null(table: &'static str, column: &'static str, to: &'static str) -> ForeignKeyCreateStatement {
    foreign_key(table, column, to, ForeignKeyAction::SetNull)
}

fn foreign_key(
    table: &'static str,
    column: &'static str,
    to: &'static str,
    on_delete: ForeignKeyAction,
) -> ForeignKeyCreateStatement {
    ForeignKey::create()
        .name(format!("fk_{table}_{column}"))
        .from(table, column)
        .to(to, "id")
        .on_delete(on_delete)
        .to_owned()
}

/// Exactly one of the columns is set.
pub fn exactly_one(columns: &[&'static str]) -> SimpleExpr {
    let mut count = Expr::val(0);
    for column in columns {
        let is_set: SimpleExpr = CaseStatement::new().case(Expr::col(*column).is_null(), 0).finally(1).into();
        count = count.add(is_set);
    }
    count.eq(1)
}

/// An index, for look-ups and for the cascade of a foreign key.
pub fn index(table: &'static str, columns: &[&'static str]) -> IndexCreateStatement {
    let mut index = Index::create().name(format!("ix_{table}_{}", columns.join("_"))).table(table).to_owned();
    for column in columns {
        index.col(*column);
    }
    index
}

/// An index that no two rows may share.
pub fn unique(table: &'static str, columns: &[&'static str]) -> IndexCreateStatement {
    index(table, columns).unique().to_owned()
}

/// Creates the tables, then the indexes.
pub async fn create(
    manager: &SchemaManager<'_>,
    tables: Vec<TableCreateStatement>,
    indexes: Vec<IndexCreateStatement>,
) -> Result<(), DbErr> {
    for table in tables {
        manager.create_table(table).await?;
    }
    for index in indexes {
        manager.create_index(index).await?;
    }
    Ok(())
}

/// Drops the tables in the given order.
pub async fn drop(manager: &SchemaManager<'_>, tables: &[&'static str]) -> Result<(), DbErr> {
    for table in tables {
        manager.drop_table(Table::drop().table(*table).to_owned()).await?;
    }
    Ok(())
}
