//! The functions that the reference SQL uses beside DataFusion's own; its header says what each is for.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, Float64Array, StringViewArray, StringViewBuilder};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::cast::{as_float64_array, as_string_view_array};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use super::error::RecomputeError;
use super::label_text::{LabelRules, merged};

/// The four functions; `refuses_underflow` is row 17 of the table of behaviours.
pub(super) fn functions(rules: LabelRules, refuses_underflow: bool) -> Vec<ScalarUDF> {
    let text = |arguments| Signature::uniform(arguments, vec![DataType::Utf8View], Volatility::Immutable);
    let numbers = || Signature::uniform(2, vec![DataType::Float64], Volatility::Immutable);
    vec![
        ScalarUDF::new_from_impl(KeptLabels { signature: text(1), rules: Arc::new(rules) }),
        ScalarUDF::new_from_impl(MergeLabels {
            signature: Signature::variadic(vec![DataType::Utf8View], Volatility::Immutable),
        }),
        ScalarUDF::new_from_impl(NotLost { signature: numbers(), refuses_underflow }),
        ScalarUDF::new_from_impl(NotZero { signature: numbers() }),
    ]
}

/// `kept_labels(labels)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct KeptLabels {
    signature: Signature,
    rules: Arc<LabelRules>,
}

impl ScalarUDFImpl for KeptLabels {
    fn name(&self) -> &str {
        "kept_labels"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let column = args.arg_fields[0].name();
        let arrays = arrays(&args)?;
        let mut kept = StringViewBuilder::with_capacity(arrays[0].len());
        for text in as_string_view_array(&arrays[0])? {
            kept.append_option(self.rules.kept(text).map_err(|problem| RecomputeError::label(column, problem))?);
        }
        Ok(ColumnarValue::Array(Arc::new(kept.finish())))
    }
}

/// `merge_labels(a, b, …)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct MergeLabels {
    signature: Signature,
}

impl ScalarUDFImpl for MergeLabels {
    fn name(&self) -> &str {
        "merge_labels"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = arrays(&args)?;
        let columns =
            arrays.iter().map(|array| as_string_view_array(array)).collect::<Result<Vec<&StringViewArray>>>()?;
        let mut rows = StringViewBuilder::with_capacity(args.number_rows);
        for row in 0..args.number_rows {
            if columns.iter().any(|column| column.is_null(row)) {
                rows.append_null();
            } else {
                let texts: Vec<&str> = columns.iter().map(|column| column.value(row)).collect();
                rows.append_value(merged(&texts));
            }
        }
        Ok(ColumnarValue::Array(Arc::new(rows.finish())))
    }
}

/// `not_lost(result, operand)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct NotLost {
    signature: Signature,
    refuses_underflow: bool,
}

impl ScalarUDFImpl for NotLost {
    fn name(&self) -> &str {
        "not_lost"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_lost = |(result, operand): (Option<f64>, Option<f64>)| {
            result == Some(0.0) && operand.is_some_and(|operand| operand != 0.0)
        };
        first_unless(&args, RecomputeError::Underflow, |pair| self.refuses_underflow && is_lost(pair))
    }
}

/// `not_zero(divisor, dividend)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct NotZero {
    signature: Signature,
}

impl ScalarUDFImpl for NotZero {
    fn name(&self) -> &str {
        "not_zero"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        first_unless(&args, RecomputeError::ZeroDivisor, |(divisor, dividend)| {
            divisor == Some(0.0) && dividend.is_some()
        })
    }
}

/// The first argument, unless some row is refused.
fn first_unless(
    args: &ScalarFunctionArgs,
    error: RecomputeError,
    is_refused: impl Fn((Option<f64>, Option<f64>)) -> bool,
) -> Result<ColumnarValue> {
    let arrays = arrays(args)?;
    let (first, second): (&Float64Array, &Float64Array) =
        (as_float64_array(&arrays[0])?, as_float64_array(&arrays[1])?);
    match first.iter().zip(second).any(is_refused) {
        true => Err(error.into()),
        false => Ok(ColumnarValue::Array(Arc::clone(&arrays[0]))),
    }
}

/// The arguments as arrays of one length; an untyped null becomes one of the type that is asked for.
fn arrays(args: &ScalarFunctionArgs) -> Result<Vec<ArrayRef>> {
    args.args
        .iter()
        .map(|value| match value {
            ColumnarValue::Scalar(ScalarValue::Null) => {
                ScalarValue::try_from(args.return_type())?.to_array_of_size(args.number_rows)
            }
            value => value.to_array(args.number_rows),
        })
        .collect()
}
