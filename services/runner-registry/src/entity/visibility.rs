use sea_orm::entity::prelude::*;

/// Who may see a group or a project. The numbers are those of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "i16", db_type = "SmallInteger")]
pub enum Visibility {
    /// Its members.
    #[sea_orm(num_value = 1)]
    Private,
    /// Every signed-in user.
    #[sea_orm(num_value = 2)]
    Internal,
    /// Everybody.
    #[sea_orm(num_value = 3)]
    Public,
}
