//! Whole-appliance test support.
