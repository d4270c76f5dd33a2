//! `strftime_now`, with which a template tells the model today's date.

use minijinja::{Error, ErrorKind};

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A moment on a wall clock.
struct Moment {
    year: i32,
    /// 0 is January.
    month: usize,
    day: i32,
    hour: i32,
    minute: i32,
    second: i32,
    /// 0 is Sunday.
    weekday: usize,
    /// 0 is the first of January.
    day_of_year: i32,
}

/// The local time in `format`.
pub(super) fn strftime_now(format: String) -> Result<String, Error> {
    strftime(&format, &now())
}

#[cfg(unix)]
fn now() -> Moment {
    // SAFETY: `tm` is plain data, for which zeros are valid; both functions write only to the variables lent to them.
    let tm = unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        let seconds = libc::time(std::ptr::null_mut());
        libc::localtime_r(&seconds, &mut tm);
        tm
    };
    Moment {
        year: tm.tm_year + 1900,
        month: tm.tm_mon as usize % 12,
        day: tm.tm_mday,
        hour: tm.tm_hour,
        minute: tm.tm_min,
        second: tm.tm_sec,
        weekday: tm.tm_wday as usize % 7,
        day_of_year: tm.tm_yday,
    }
}

/// Where there is no `localtime_r`, the time in Greenwich.
#[cfg(not(unix))]
fn now() -> Moment {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    utc(now.as_secs() as i64)
}

/// The date by the Gregorian calendar, counted in years that begin in March, so that a leap day comes last.
#[cfg(any(not(unix), test))]
fn utc(seconds: i64) -> Moment {
    let (days, rest) = (seconds.div_euclid(86400), seconds.rem_euclid(86400) as i32);
    let days_from_era = days + 719_468;
    let (era, day) = (days_from_era.div_euclid(146_097), days_from_era.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_march_year = day - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day_of_march_year + 2) / 153;
    let month = (month_from_march + 2) % 12;
    let year = (year + era * 400) as i32 + i32::from(month < 2);
    let leap = i64::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
    Moment {
        year,
        month: month as usize,
        day: (day_of_march_year - (153 * month_from_march + 2) / 5 + 1) as i32,
        hour: rest / 3600,
        minute: rest / 60 % 60,
        second: rest % 60,
        weekday: (days + 4).rem_euclid(7) as usize,
        day_of_year: (if month < 2 { day_of_march_year - 306 } else { day_of_march_year + 59 + leap }) as i32,
    }
}

/// The directives of C's `strftime` that name parts of a date, in English whatever the locale.
fn strftime(format: &str, t: &Moment) -> Result<String, Error> {
    let mut out = String::new();
    let mut chars = format.chars();
    let hour12 = (t.hour + 11) % 12 + 1;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let (directive, pad) = match chars.next() {
            Some('-') => (chars.next(), false),
            directive => (directive, true),
        };
        let number = |n: i32, width: usize| if pad { format!("{n:0width$}") } else { n.to_string() };
        out += &match directive {
            Some('Y') => t.year.to_string(),
            Some('y') => number(t.year.rem_euclid(100), 2),
            Some('m') => number(t.month as i32 + 1, 2),
            Some('d') => number(t.day, 2),
            Some('e') => format!("{:2}", t.day),
            Some('H') => number(t.hour, 2),
            Some('I') => number(hour12, 2),
            Some('M') => number(t.minute, 2),
            Some('S') => number(t.second, 2),
            Some('j') => number(t.day_of_year + 1, 3),
            Some('w') => t.weekday.to_string(),
            Some('p') => if t.hour < 12 { "AM" } else { "PM" }.into(),
            Some('A') => DAYS[t.weekday].into(),
            Some('a') => DAYS[t.weekday][..3].into(),
            Some('B') => MONTHS[t.month].into(),
            Some('b' | 'h') => MONTHS[t.month][..3].into(),
            Some('F') => format!("{}-{:02}-{:02}", t.year, t.month + 1, t.day),
            Some('T') => format!("{:02}:{:02}:{:02}", t.hour, t.minute, t.second),
            Some('%') => "%".into(),
            other => {
                let what = format!("strftime_now does not know %{}", other.map(String::from).unwrap_or_default());
                return Err(Error::new(ErrorKind::InvalidOperation, what));
            }
        };
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The right-hand sides are what `date -u -d @N` prints.
    #[test]
    fn dates() {
        let all = "%Y-%m-%d %H:%M:%S %A %d %B %b %a %j %I %p %-d %y %%";
        let at = |seconds| strftime(all, &utc(seconds)).unwrap();
        assert_eq!(at(0), "1970-01-01 00:00:00 Thursday 01 January Jan Thu 001 12 AM 1 70 %");
        assert_eq!(at(951_827_696), "2000-02-29 12:34:56 Tuesday 29 February Feb Tue 060 12 PM 29 00 %");
        assert_eq!(at(1_735_689_599), "2024-12-31 23:59:59 Tuesday 31 December Dec Tue 366 11 PM 31 24 %");
        assert!(strftime("%Q", &utc(0)).is_err() && strftime("%", &utc(0)).is_err());
        assert_eq!(strftime_now("%Y".into()).unwrap().len(), 4);
    }
}
