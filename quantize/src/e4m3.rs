//! The 8-bit floating-point numbers of quantized checkpoints: sign, 4 bits of exponent (bias 7), 3 of mantissa. There is
//! no infinity; the two codes with all other bits set are NaN.

/// The value of every code.
pub static VALUES: [f32; 256] = values();

const fn values() -> [f32; 256] {
    let mut all = [0.0; 256];
    let mut code = 0;
    while code < 256 {
        all[code] = value(code as u32);
        code += 1;
    }
    all
}

const fn value(code: u32) -> f32 {
    let (sign, exponent, mantissa) = (code >> 7, (code >> 3) & 15, code & 7);
    if exponent == 15 && mantissa == 7 {
        return f32::NAN;
    }
    let magnitude = match exponent {
        // Subnormal: multiples of 2^-9.
        0 => mantissa as f32 / 512.0,
        _ => f32::from_bits((exponent + 120) << 23 | mantissa << 20),
    };
    if sign == 1 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::VALUES;

    /// The landmarks of the format's table in the OCP 8-bit specification.
    #[test]
    fn landmarks() {
        let cases = [(0x00, 0.0), (0x01, 2f32.powi(-9)), (0x07, 0.875 * 2f32.powi(-6)), (0x08, 2f32.powi(-6))];
        let more = [(0x38, 1.0), (0x39, 1.125), (0x7e, 448.0), (0xb8, -1.0), (0xfe, -448.0)];
        for (code, value) in cases.into_iter().chain(more) {
            assert_eq!(VALUES[code], value, "{code:#x}");
        }
        assert!(VALUES[0x80] == 0.0 && VALUES[0x80].is_sign_negative());
        assert_eq!((0..256).filter(|&code| VALUES[code].is_nan()).collect::<Vec<_>>(), [0x7f, 0xff]);
    }
}
