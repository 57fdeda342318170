//! What is not ours is never believed.
