//! The causes of an error → why a server's certificate was refused, if that is what happened.
//!
//! The same certificate is refused the next time as well, so nothing that ends like this is worth another attempt.

use std::error::Error;
use std::fmt;
use std::io;

use rustls::CertificateError;

/// Causes of causes that are looked at; real chains have five.
const MOST_CAUSES: usize = 32;

/// Why a certificate was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateFault {
    /// Nobody who is trusted here has signed it.
    UnknownIssuer,
    /// It is for another name than the one that was asked for.
    OtherName,
    /// Its time is over, or has not come.
    NotValidNow,
    /// Anything else.
    Unusable,
}

impl CertificateFault {
    /// Looks through an error and its causes.
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        for _ in 0..MOST_CAUSES {
            let cause = next?;
            if let Some(rustls::Error::InvalidCertificate(fault)) = cause.downcast_ref() {
                return Some(Self::of_library(fault));
            }
            // An input-output error that wraps another one is that one; its cause would be the cause behind it.
            let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            next = match wrapped {
                Some(wrapped) => Some(wrapped),
                None => cause.source(),
            };
        }
        None
    }

    fn of_library(fault: &CertificateError) -> Self {
        match fault {
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::OtherName,
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::NotValidNow,
            _ => Self::Unusable,
        }
    }

    /// What is wrong and what to do; `ca_file` is the key that names authorities.
    pub fn with_fix(self, ca_file: &str) -> String {
        match self {
            Self::UnknownIssuer => {
                format!("{self}: write the PEM file of the authority that signed it into {ca_file}")
            }
            Self::OtherName => {
                format!(
                    "{self}: reach the server by a name of its certificate, or give it one for this name ({ca_file} is not the cause)"
                )
            }
            Self::NotValidNow => format!("{self}: renew it, and look at the clock here ({ca_file} is not the cause)"),
            Self::Unusable => format!("{self}: look at the server's certificate and at {ca_file}"),
        }
    }
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownIssuer => "the server's certificate is signed by an authority that is not trusted here",
            Self::OtherName => "the server's certificate is for another name",
            Self::NotValidNow => "the server's certificate has expired or is not valid yet",
            Self::Unusable => "the server's certificate cannot be used",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("request failed")]
    struct Wrapped(#[source] Box<dyn Error + Send + Sync>);

    fn fault(library: CertificateError) -> Option<CertificateFault> {
        let io = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::InvalidCertificate(library));
        CertificateFault::of(&Wrapped(Box::new(Wrapped(Box::new(io)))))
    }

    #[test]
    fn a_refused_certificate_is_found_behind_other_errors() {
        assert_eq!(fault(CertificateError::UnknownIssuer), Some(CertificateFault::UnknownIssuer));
        assert_eq!(fault(CertificateError::NotValidForName), Some(CertificateFault::OtherName));
        assert_eq!(fault(CertificateError::Expired), Some(CertificateFault::NotValidNow));
        assert_eq!(fault(CertificateError::NotValidYet), Some(CertificateFault::NotValidNow));
        assert_eq!(fault(CertificateError::BadEncoding), Some(CertificateFault::Unusable));
        let bare = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert_eq!(CertificateFault::of(&bare), Some(CertificateFault::UnknownIssuer));
    }

    #[test]
    fn other_failures_are_no_certificates() {
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(CertificateFault::of(&Wrapped(Box::new(reset))), None);
        let handshake = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::HandshakeNotComplete);
        assert_eq!(CertificateFault::of(&Wrapped(Box::new(handshake))), None);
    }

    #[test]
    fn each_fault_names_the_key_and_what_to_do() {
        use CertificateFault as F;
        for fault in [F::UnknownIssuer, F::OtherName, F::NotValidNow, F::Unusable] {
            let text = fault.with_fix("storage.ca_file");
            assert!(text.contains("storage.ca_file") && text.starts_with(&fault.to_string()), "{text}");
        }
    }
}
