//! Looking at arguments that are for another program.

use std::ffi::{OsStr, OsString};

pub(crate) fn has_flag(args: &[OsString], flag: &str) -> bool {
    args.iter()
        .any(|arg| arg == flag || inline_value(arg, flag).is_some())
}

/// The value of the last `--flag value` or `--flag=value`. A flag without a value is for the other program to explain.
pub(crate) fn value_of<'a>(args: &'a [OsString], flag: &str) -> Option<&'a OsStr> {
    values_of(args, flag).pop()
}

/// The value of the last `--set key=value` with this key.
pub(crate) fn setting<'a>(args: &'a [OsString], key: &str) -> Option<&'a OsStr> {
    let mut settings = values_of(args, "--set");
    settings.retain(|setting| inline_value(setting, key).is_some());
    inline_value(settings.pop()?, key)
}

fn values_of<'a>(args: &'a [OsString], flag: &str) -> Vec<&'a OsStr> {
    let mut values = Vec::new();
    for (index, arg) in args.iter().enumerate() {
        let value = match arg == flag {
            true => args.get(index + 1).map(OsString::as_os_str),
            false => inline_value(arg, flag),
        };
        values.extend(value);
    }
    values
}

fn inline_value<'a>(arg: &'a OsStr, flag: &str) -> Option<&'a OsStr> {
    let value = arg.to_str()?.strip_prefix(flag)?.strip_prefix('=')?;
    Some(OsStr::new(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &str) -> Vec<OsString> {
        words.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_last_value_of_a_flag_holds_in_either_form() {
        let value = |words: &str| {
            let args = args(words);
            value_of(&args, "--config").map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(value("train --config a").as_deref(), Some("a"));
        assert_eq!(value("train --config=a --config b").as_deref(), Some("b"));
        assert_eq!(value("train --config a --config=b").as_deref(), Some("b"));
        assert_eq!(value("train --config"), None);
        assert_eq!(value("train --configuration a"), None);
        assert!(has_flag(&args("train --config=a"), "--config"));
        assert!(!has_flag(&args("train config"), "--config"));
    }

    #[test]
    fn the_last_setting_of_a_key_holds() {
        let args = args("train --set a.b=1 --set=a.b=2 --set a.bc=3");
        assert_eq!(setting(&args, "a.b").unwrap(), "2");
        assert_eq!(setting(&args, "a"), None);
    }
}
