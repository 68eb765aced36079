//! Model and profile of a graphics processor → slices and memory of the partition (contract, section 2.3, gpu_usage).

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{Array, DictionaryArray};

use crate::schema::operator::SLICES_OF_MODELS;

/// MiB of a GB in a profile's name.
const MIB_PER_GB: f64 = 1_024.0;

/// What follows from models and profiles, row by row; NaN where nothing does.
#[derive(Debug)]
pub(super) struct Partitions {
    pub(super) slices: Vec<f64>,
    pub(super) memory_mib: Vec<f64>,
    pub(super) most_slices: Vec<f64>,
    /// Whether the model is one that can be partitioned.
    pub(super) can_be_partitioned: Vec<bool>,
    /// Whether any row has a profile.
    pub(super) has_profiles: bool,
}

/// Looks at each distinct model and profile once. A processor without a profile, or of an unknown model, is not partitioned.
pub(super) fn of_rows(
    models: &DictionaryArray<UInt32Type>,
    profiles: &DictionaryArray<UInt32Type>,
    row_count: usize,
) -> Partitions {
    let models_most: Vec<Option<f64>> = distinct(models).map(most_slices).collect();
    let sizes: Vec<Option<(f64, f64)>> = distinct(profiles).map(profile).collect();
    let is_empty: Vec<bool> = distinct(profiles).map(str::is_empty).collect();
    let mut found = Partitions {
        slices: Vec::with_capacity(row_count),
        memory_mib: Vec::with_capacity(row_count),
        most_slices: Vec::with_capacity(row_count),
        can_be_partitioned: Vec::with_capacity(row_count),
        has_profiles: false,
    };
    for (model, profile) in models.keys().values().iter().zip(profiles.keys().values()) {
        let (most, profile) = (models_most[*model as usize], *profile as usize);
        let size = sizes[profile].filter(|_| most.is_some());
        found.slices.push(size.map_or(f64::NAN, |(slices, _)| slices));
        found.memory_mib.push(size.map_or(f64::NAN, |(_, memory)| memory));
        found.most_slices.push(most.filter(|_| !is_empty[profile]).unwrap_or(f64::NAN));
        found.can_be_partitioned.push(most.is_some());
        found.has_profiles |= !is_empty[profile];
    }
    found
}

fn distinct(texts: &DictionaryArray<UInt32Type>) -> impl Iterator<Item = &str> {
    let values = texts.values().as_string::<i32>();
    (0..values.len()).map(|code| values.value(code))
}

/// Most slices of a model: an exact name first, then one that is part of the upper-cased text.
fn most_slices(model: &str) -> Option<f64> {
    let upper = model.to_uppercase();
    let exact = SLICES_OF_MODELS.iter().find(|(name, _)| *name == model);
    let found = exact.or_else(|| SLICES_OF_MODELS.iter().find(|(name, _)| upper.contains(name)));
    found.map(|(_, slices)| *slices)
}

/// `1g.5gb` → 1 slice, 5,120 MiB.
fn profile(text: &str) -> Option<(f64, f64)> {
    let (slices, memory) = text.split_once("g.")?;
    let memory = memory.strip_suffix("gb")?;
    let number = |text: &str| -> Option<f64> {
        let is_number = !text.is_empty() && text.len() <= 6 && text.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { text.parse().ok() } else { None }
    };
    Some((number(slices)?, number(memory)? * MIB_PER_GB))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_and_models_are_read() {
        assert_eq!(profile("1g.5gb"), Some((1.0, 5_120.0)));
        assert_eq!(profile("7g.80gb"), Some((7.0, 81_920.0)));
        for text in ["", "g.5gb", "1g.5", "1g.gb", "xg.5gb", "1g.5gb+me"] {
            assert_eq!(profile(text), None, "{text}");
        }
        assert_eq!(most_slices("A30"), Some(4.0));
        assert_eq!(most_slices("NVIDIA a100 PCIe 40GB"), Some(7.0));
        assert_eq!(most_slices("NVIDIA RTX PRO 6000 Blackwell"), Some(4.0));
        assert_eq!(most_slices("NVIDIA RTX PRO 5000"), Some(2.0));
        assert_eq!(most_slices("Tesla T4"), None);
    }

    #[test]
    fn unknown_models_and_missing_profiles_are_not_partitioned() {
        let models: DictionaryArray<UInt32Type> = ["H100", "T4", "H100", "H100"].into_iter().collect();
        let profiles: DictionaryArray<UInt32Type> = ["2g.20gb", "1g.5gb", "", "odd"].into_iter().collect();
        let found = of_rows(&models, &profiles, 4);
        let text = |values: &[f64]| format!("{values:?}");
        assert_eq!(text(&found.slices), "[2.0, NaN, NaN, NaN]");
        assert_eq!(text(&found.memory_mib), "[20480.0, NaN, NaN, NaN]");
        assert_eq!(text(&found.most_slices), "[7.0, NaN, NaN, 7.0]");
        assert_eq!(found.can_be_partitioned, [true, false, true, true]);
        assert!(found.has_profiles);
    }
}
