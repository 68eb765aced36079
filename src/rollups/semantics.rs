//! The three named behaviours; every place where they differ asks a question that is answered here.

use std::fmt;

/// Which reference the numbers agree with. Row numbers in the docs of the methods are those of the semantics table in
/// docs/rollups.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Semantics {
    /// The books close: no usage is lost, none is counted twice.
    Balanced,
    /// What Koku's on-prem SQL writes, its multiplications included.
    SelfHosted,
    /// What Koku's Trino SQL writes.
    Trino,
}

impl Semantics {
    /// The name used in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Semantics::Balanced => "balanced",
            Semantics::SelfHosted => "self_hosted",
            Semantics::Trino => "trino",
        }
    }
}

impl fmt::Display for Semantics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
