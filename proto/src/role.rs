//! The roles of members of groups and projects. Messages carry a role as its number, `access_level`.

/// A role; a greater one includes the smaller ones. Source of the numbers: <https://docs.gitlab.com/api/access_requests/>
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Sees the object.
    Guest = 10,
    /// Sees its code.
    Reporter = 20,
    /// Changes its code.
    Developer = 30,
    /// Administers a project.
    Maintainer = 40,
    /// Administers a group, deletes a project.
    Owner = 50,
}

impl Role {
    /// Every role, from the least to the greatest.
    pub const ALL: [Self; 5] = [Self::Guest, Self::Reporter, Self::Developer, Self::Maintainer, Self::Owner];

    /// Returns the number of the role in messages and tables.
    #[must_use]
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// Returns the role with the number; none for a number that no role has.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.number() == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_survives_its_number_and_the_order_is_that_of_the_numbers() {
        for role in Role::ALL {
            assert_eq!(Role::from_number(role.number()), Some(role));
        }
        assert!(Role::ALL.is_sorted_by_key(|role| role.number()) && Role::ALL.is_sorted());
        for number in [0, 5, 15, 45, 60, -10, 65_546, i32::MAX] {
            assert_eq!(Role::from_number(number), None, "{number}");
        }
    }
}
