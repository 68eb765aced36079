//! Kind of failure → what to do about it: exit code, retry, fix. The only place that decides these.
//!
//! Each stage has its own error enum whose variants say what failed and where; its `kind()` names one of the kinds here.

/// The fix of a broken promise of our own code, and of no other kind.
const REPORT_IT: &str = "please report this with the message and the version";

/// What sort of failure an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The command line cannot be understood.
    Usage,
    /// The configuration has problems.
    Config,
    /// An object is not readable Parquet (truncated, empty, corrupt).
    ObjectUnreadable,
    /// The key of an object cannot be addressed (an empty segment, `..`, a control character).
    KeyUnusable,
    /// An object lies in an archive class of the storage.
    ObjectArchived,
    /// A required column is missing from an object.
    ColumnMissing,
    /// A column has a type that cannot be coerced to the declared one.
    ColumnUnusable,
    /// A CSV has the columns of no report, or there is none at all.
    ReportUnknown,
    /// A CSV, or the archive it came in, cannot be read to its end.
    ReportUnreadable,
    /// A delivery has no usable manifest, lacks files that it names, or is another cluster's.
    PayloadUnusable,
    /// A label text is not a JSON object.
    LabelMalformed,
    /// A label is an object, but blank, nested or not storable where the chosen semantics need otherwise.
    LabelRefused,
    /// A value cannot be computed or stored (NaN, infinity, division by zero, overflow, NUL byte).
    ValueUnusable,
    /// Totals in and totals out differ.
    NotConserved,
    /// No object under any prefix of the period.
    NoObjects,
    /// The ledger has a day whose objects are all gone.
    ObjectsDisappeared,
    /// A day would be made from far fewer objects than its old rows were.
    FewerObjects,
    /// A day's new rows differ from its old ones by more than the configured guard allows.
    ChangeTooLarge,
    /// Two deliveries of one report and day, and the configuration refuses them.
    TwoManifests,
    /// Some days failed, others were written.
    SomeDaysFailed,
    /// The state of one day needs more memory than the budget.
    MemoryBudget,
    /// An object changed between listing and reading.
    ObjectChanged,
    /// An object is listed as it was, and every read finds another one.
    ObjectInconsistent,
    /// The object store cannot be reached or answers 5xx.
    StorageUnavailable,
    /// The object store answers with something that is no answer to the request.
    StorageAnswerUnusable,
    /// The clock here and that of the object store differ too much.
    ClocksDiffer,
    /// The bucket does not exist.
    BucketMissing,
    /// The object store refuses access.
    AccessDenied,
    /// The certificate of the object store or of PostgreSQL is not trusted, is for another name, or has expired.
    CertificateRefused,
    /// PostgreSQL cannot be reached, is shutting down, or has run out of a resource other than its disk.
    DatabaseUnavailable,
    /// The disk of the database server is full.
    DatabaseFull,
    /// Another writer holds the day's lock.
    LockBusy,
    /// Other pods hold days that are not written yet.
    HeldByOthers,
    /// PostgreSQL refuses the login.
    LoginRefused,
    /// A schema, table, column or type in PostgreSQL is not what is needed.
    TargetShape,
    /// The role lacks a privilege.
    PrivilegeMissing,
    /// Row-level security may hide rows of a table from the role.
    RowsHidden,
    /// Something in the database changes, moves or drops rows that are written.
    RowsAltered,
    /// PostgreSQL refuses the rows or a statement for a reason that a retry does not mend.
    DatabaseRefused,
    /// No report period row for this cluster, month and source.
    ReportPeriodMissing,
    /// A file or folder of the file target cannot be written.
    FileUnwritable,
    /// `verify` has nothing to compare the target with, or no target to compare.
    NotComparable,
    /// Stopped by SIGTERM or SIGINT.
    Interrupted,
    /// A promise of our own code was broken.
    Bug,
}

impl ErrorKind {
    /// The process exit code (docs/operations.md has the table).
    pub fn exit_code(self) -> u8 {
        use ErrorKind as K;
        match self {
            K::NotComparable => 2,
            K::Usage => 64,
            K::ObjectUnreadable
            | K::KeyUnusable
            | K::ObjectArchived
            | K::ColumnMissing
            | K::ColumnUnusable
            | K::ReportUnknown
            | K::ReportUnreadable
            | K::PayloadUnusable
            | K::LabelMalformed
            | K::LabelRefused
            | K::ValueUnusable
            | K::NotConserved
            | K::NoObjects
            | K::ObjectsDisappeared
            | K::FewerObjects
            | K::ChangeTooLarge
            | K::TwoManifests
            | K::SomeDaysFailed => 65,
            K::Bug => 70,
            K::ObjectChanged
            | K::StorageUnavailable
            | K::DatabaseUnavailable
            | K::DatabaseFull
            | K::LockBusy
            | K::HeldByOthers => 75,
            K::Config
            | K::MemoryBudget
            | K::ObjectInconsistent
            | K::StorageAnswerUnusable
            | K::ClocksDiffer
            | K::BucketMissing
            | K::AccessDenied
            | K::CertificateRefused
            | K::LoginRefused
            | K::TargetShape
            | K::PrivilegeMissing
            | K::RowsHidden
            | K::RowsAltered
            | K::DatabaseRefused
            | K::ReportPeriodMissing
            | K::FileUnwritable => 78,
            K::Interrupted => 143,
        }
    }

    /// Whether trying the same thing again may succeed.
    pub fn is_transient(self) -> bool {
        self.exit_code() == 75
    }

    /// Whether the failure belongs to one day, so that other days may still be written.
    pub fn is_of_one_day(self) -> bool {
        use ErrorKind as K;
        matches!(
            self,
            K::ObjectUnreadable
                | K::KeyUnusable
                | K::ObjectArchived
                | K::ColumnMissing
                | K::ColumnUnusable
                | K::LabelMalformed
                | K::LabelRefused
                | K::ValueUnusable
                | K::NotConserved
                | K::ObjectsDisappeared
                | K::FewerObjects
                | K::ChangeTooLarge
                | K::TwoManifests
        )
    }

    /// Whether the failure belongs to one source, so that the days of other sources may still be written.
    pub fn is_of_one_source(self) -> bool {
        self.is_of_one_day() || matches!(self, Self::ReportPeriodMissing | Self::NoObjects)
    }

    /// What the reader of the message can do.
    pub fn fix(self) -> &'static str {
        match self.exit_code() {
            65 => self.fix_of_data(),
            75 => self.fix_of_the_moment(),
            _ => self.fix_of_setup(),
        }
    }

    /// Where the data is bad.
    fn fix_of_data(self) -> &'static str {
        use ErrorKind as K;
        match self {
            K::ObjectUnreadable => "deliver the object again, or remove it if it is not part of the report",
            K::KeyUnusable => {
                "store the object under a key without empty segments, `.`, `..` and control characters, or remove it"
            }
            K::ObjectArchived => {
                "restore the object from its archive class and run again, or remove it if it is not part of the report"
            }
            K::ColumnMissing | K::ColumnUnusable => {
                "export the report again with the documented columns (docs/rollups.md)"
            }
            K::ReportUnknown => {
                "name the operator's reports with `--in`: a folder of CSV files, one of them, or a payload; docs/convert.md lists the reports"
            }
            K::ReportUnreadable => "mend the named file or fetch it again",
            K::PayloadUnusable => "nothing was converted; fetch the whole payload again, with its manifest.json",
            K::LabelMalformed => {
                "mend the label text at its source; under `semantics: balanced`, `labels.on_malformed: empty` takes it as {}"
            }
            K::LabelRefused => {
                "mend the label at its source; `semantics: balanced` takes blank texts and nested values"
            }
            K::ValueUnusable => "look for the named keys and column in the report; the value there cannot be stored",
            K::NotConserved => {
                "do not use the day; report this with the two numbers, it is a defect of gristmill or of the input"
            }
            K::NoObjects => {
                "check organization.org_id, source.uuid, the period and storage.url; `--allow-empty` accepts an empty period"
            }
            K::ObjectsDisappeared => {
                "deliver the objects again; `input.on_disappeared: accept` keeps the day's rows, with `--delete-empty-days` they go"
            }
            K::FewerObjects => {
                "deliver the missing objects again; if the day is right as it is now, run it once with `--set target.guard.min_objects_percent=0`"
            }
            K::ChangeTooLarge => {
                "look at `gristmill plan --diff`; to accept the day run it once with `--set target.guard.max_change_percent=`"
            }
            K::TwoManifests => "remove the superseded delivery, or set `input.on_two_manifests: warn`",
            K::SomeDaysFailed => "mend what the listed days name, then run again; days that were written stay",
            _ => REPORT_IT,
        }
    }

    /// Where another attempt may succeed.
    fn fix_of_the_moment(self) -> &'static str {
        use ErrorKind as K;
        match self {
            K::ObjectChanged => "run again once the upload has finished",
            K::StorageUnavailable => "check storage.endpoint and the network, then run again",
            K::DatabaseUnavailable => "check that PostgreSQL runs and can be reached, then run again",
            K::DatabaseFull => "free space on the disk of the database server, or give it a larger one, then run again",
            K::LockBusy => "another run writes this day; wait for it, then run again",
            K::HeldByOthers => {
                "look at the named pods, then run again; the claim of a pod that is gone expires by itself"
            }
            _ => REPORT_IT,
        }
    }

    /// Where something has to be set up in another way first.
    fn fix_of_setup(self) -> &'static str {
        use ErrorKind as K;
        match self {
            K::Usage => "run `gristmill --help`",
            K::Config => "mend the configuration; `gristmill config --config FILE` checks it",
            K::MemoryBudget => {
                "raise performance.memory_budget and the pod's memory limit, or lower performance.max_workers"
            }
            K::ObjectInconsistent => {
                "if ETags of this server differ between listing and object, `storage.compare_objects_by: size_and_time` goes on without them; otherwise look for a cache or a replica that answers with old objects"
            }
            K::StorageAnswerUnusable => {
                "check that storage.endpoint is the address of the S3 server itself, not of its web console, a proxy or a cache that answers in its place"
            }
            K::ClocksDiffer => {
                "set the clock of this machine, or that of the storage, right; they may differ by a few minutes at most"
            }
            K::BucketMissing => "check storage.url",
            K::AccessDenied => {
                "check the access and secret key, and that they may list and read the bucket (`generate` and `convert` also write and remove)"
            }
            K::CertificateRefused => {
                "name the authority of the server's certificate (storage.ca_file, target.postgres.ca_file), reach the server by a name that the certificate has, and renew one that has expired"
            }
            K::LoginRefused => "check target.postgres.user, password and database",
            K::TargetShape => {
                "run `gristmill check` for the list; `gristmill init-db` creates what is missing on an empty database"
            }
            K::PrivilegeMissing => "grant the privilege that the message names (docs/operations.md lists them all)",
            K::RowsHidden => {
                "let the role see every row of the table; what a policy hides cannot be told from rows that are not there"
            }
            K::RowsAltered => {
                "drop or disable what the message names, or let it leave these rows alone; the day's old rows are still there"
            }
            K::DatabaseRefused => "the message of PostgreSQL says why; `gristmill check` tests the target",
            K::ReportPeriodMissing => "create the report period in the reference, or set source.report_period_id",
            K::FileUnwritable => "check that the named file or folder can be written and that space is left",
            K::NotComparable => "check what --against names and the target of the configuration (docs/verify.md)",
            K::Interrupted => "run again",
            _ => REPORT_IT,
        }
    }
}

/// An error on its way to the user: the kind decides, the message tells, the source explains.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Decides exit code, retry and fix.
    pub kind: ErrorKind,
    /// What failed and where.
    pub message: String,
    /// The cause, if another library reported one.
    #[source]
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    /// A failure without a deeper cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), cause: None }
    }

    /// The same failure for a caller that only borrows the error: causes become part of the message.
    pub fn of<E: std::error::Error + HasKind>(error: &E) -> Self {
        Self::new(error.kind(), with_causes(error))
    }

    /// The same failure, which tells whose it is first.
    pub fn named(self, whose: &str) -> Self {
        Self { message: format!("{whose}: {}", self.message), ..self }
    }

    /// The message and its chain of causes.
    pub fn message_with_causes(&self) -> String {
        with_causes(self)
    }

    /// The message, its chain of causes and the fix, on one line.
    pub fn full_text(&self) -> String {
        format!("{}; {}", self.message_with_causes(), self.kind.fix())
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        // A stage's error that became a failure has the failure's own message as its first cause.
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}

/// A stage's error, as `impl_failure!` marks it.
pub trait HasKind {
    /// The kind that decides exit code, retry and fix.
    fn kind(&self) -> ErrorKind;
}

/// Implements `HasKind`, and `From<stage error> for Failure`, for errors that have a `kind()`.
#[macro_export]
macro_rules! impl_failure {
    ($error:ty) => {
        impl $crate::error::HasKind for $error {
            fn kind(&self) -> $crate::error::ErrorKind {
                <$error>::kind(self)
            }
        }

        impl From<$error> for $crate::error::Failure {
            fn from(error: $error) -> Self {
                let message = error.to_string();
                let kind = error.kind();
                let cause = match std::error::Error::source(&error) {
                    Some(_) => Some(Box::new(error) as Box<dyn std::error::Error + Send + Sync>),
                    None => None,
                };
                $crate::error::Failure { kind, message, cause }
            }
        }
    };
}
