//! Label texts, maps and entries → small ids of filtered label sets, each distinct text looked at once.

/// Label rules of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabelRules {
    /// What a null label is: `true`: a set of its own (`LabelSetId::NULL`); `false`: `{}`.
    pub null_is_distinct: bool,
    /// Whether a blank text (only space, tab, CR, LF) is refused instead of taken as `{}`.
    pub refuse_blank: bool,
    /// Whether a nested value, under any key, is refused instead of turned into its jsonb text.
    pub refuse_nested: bool,
    /// Whether the operator's raw form `label_a:b|label_c:d` is understood.
    pub operator_text: bool,
    /// Whether a malformed text is taken as `{}` and counted instead of refused.
    pub malformed_as_empty: bool,
}
