use sea_orm::entity::prelude::*;

/// Who may see a group or a project, from the fewest to the most. The numbers are those of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EnumIter, DeriveActiveEnum)]
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

impl Visibility {
    /// The name that callers use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Internal => "internal",
            Self::Public => "public",
        }
    }
}
