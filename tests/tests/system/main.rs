//! The product as its users meet it: one file per promise, on the real binaries, through their real ports; and the rules
//! that hold for the source as a whole.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod architecture;
mod docs;
mod literals;
