//! Arguments → synthetic usage reports in the reference's key layout.
