//! The wire table of the meta commands: protocol.md section 4, and what 2, 5, 6, 7 and 28 say of them. Run as in [`table`](crate::table).

use memkv_engine::clock::Clock;
use memkv_server::Config;
use memkv_server::loopback::Loopback;

use crate::support::{config, show};
use crate::table::{BAD_CHUNK, BAD_LINE, TOO_LARGE, Table, case, check, key, rows};

const TOO_MANY: &str = "CLIENT_ERROR options flags are too long\r\n";
const DUPLICATE: &str = "CLIENT_ERROR duplicate flag\r\n";
const BAD_FLAG: &str = "CLIENT_ERROR invalid flag\r\n";
const BAD_TOKEN: &str = "CLIENT_ERROR bad token in command line format\r\n";
const BAD_MA: &str = "CLIENT_ERROR invalid or duplicate flag\r\n";
const BAD_BASE64: &str = "CLIENT_ERROR error decoding key\r\n";
const BAD_MS_MODE: &str = "CLIENT_ERROR invalid mode for ms M token\r\n";
const BAD_MA_MODE: &str = "CLIENT_ERROR invalid mode for ma M token\r\n";
const NON_NUMERIC: &str = "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";
const VERSION: &str = "VERSION 1.6.45 memkv-{n}.{n}.{n}\r\n";

#[rustfmt::skip] // a table: one row a line
fn common_rules() -> Table {
    let seventeen = "b c f h k l q s t u v x I L MS P T1";
    let opaque = |len: usize| format!("O{}", "o".repeat(len));
    vec![(
        config(),
        vec![
            case("1.2 mn and a bare newline", "mn\n", BAD_LINE),
            case("1.6 too few words", "mg\r\nms\r\nmd\r\nma\r\nme\r\n", BAD_LINE.repeat(5)),
            case("1.6 a space is no word", "mg \r\nms \r\nmd \r\nma \r\nme \r\n", BAD_LINE.repeat(5)),
            case("1.6 ms without datalen", "ms a\r\n", BAD_LINE),
            case("1.3 commands are lower case", "MG a\r\nmG a\r\nmx a\r\n", "ERROR\r\n".repeat(3)),
            case("1.4 runs of spaces", "ms   a  1   T0  c \r\n1\r\nmg  a   v  s  \r\n", "HD c{n}\r\nVA 1 s1\r\n1\r\n"),
            case("1.5 no HTTP guard for a meta command", "mg a HTTP/1.1\r\n", BAD_FLAG),
            case("1.9 mg must not be long", format!("mg {}", key(2050)), "").closes(),
            case("4.1.1 eighteen flags of mg", format!("ms Zm9v 1 b\r\n1\r\nmg Zm9v {seventeen} F1\r\n"), "HD\r\nVA 1 c{n} f0 h0 kZm9v b l{n} s1 t-1\r\n1\r\n"),
            case("4.1.1 nineteen flags of mg", format!("mg a {seventeen} F1 D1\r\n"), TOO_MANY),
            case("4.1.1 nineteen flags of md", format!("md a {seventeen} F1 D1\r\n"), TOO_MANY),
            case("4.1.1 nineteen flags of ma", format!("ma a {seventeen} F1 D1\r\n"), TOO_MANY),
            case("4.1.1 seventeen flags of ms", format!("ms Zm9v 1 {seventeen}\r\n1\r\n"), ""),
            case("4.1.1 eighteen flags of ms", format!("ms a 1 {seventeen} F1\r\n1\r\nmg a\r\n"), format!("{TOO_MANY}EN\r\n")),
            case("4.1.1 before anything else is wrong", format!("mg a{}\r\n", " z".repeat(19)), TOO_MANY),
            case("4.1.2 a letter twice", "mg a v v\r\nmg a T1 T2\r\nmd a q q\r\n", DUPLICATE.repeat(3)),
            case("4.1.2 a letter twice in ms", "ms a 1 T1 T2\r\n1\r\nmg a\r\n", format!("{DUPLICATE}EN\r\n")),
            case("4.1.2 a letter twice in ma", "ma a q q\r\n", BAD_MA),
            case("4.1.3 neither letter nor digit", "mg a !\r\nmd a -1\r\nmg a \x7f\r\nmg a {\r\n", BAD_LINE.repeat(4)),
            case("4.1.3 a digit", "mg a 1\r\nmd a 0\r\n", BAD_FLAG.repeat(2)),
            case("4.1.3 an unknown letter", "mg a z\r\nmd a Q\r\nmg a ^\r\nms a 1 S1\r\n1\r\n", BAD_FLAG.repeat(4)),
            case("4.1.3 in ma", "ma a !\r\nma a 1\r\nma a z\r\n", BAD_MA.repeat(3)),
            case("4.1.4 letters of other commands in ms", "ms a 1 v h l u x t f\r\n1\r\n", "HD\r\n"),
            case("4.1.4 letters of other commands in mg", "mg a M I x D1 J1\r\n", "EN\r\n"),
            case("4.1.4 letters of other commands in md", "md a v s t c R1\r\n", "NF\r\n"),
            case("4.1.4 letters of other commands in ma", "ma a f h l s u x F1 P L\r\n", "NF\r\n"),
            case("4.1.4 their arguments are checked", "mg a Dx\r\nmd a Rx\r\nmd a Jx\r\nms a 1 Rx\r\n1\r\n", format!("CLIENT_ERROR invalid numeric delta value\r\n{BAD_TOKEN}CLIENT_ERROR invalid numeric initial value\r\n{BAD_TOKEN}")),
            case("4.1.5 surplus text behind a letter", "ms a 1 kxyz MEfoo\r\n1\r\nmg a vfoo kxyz\r\n", "HD ka\r\nVA 1 ka\r\n1\r\n"),
            case("4.1.5 bxyz is b", "ms Zm9v 1 bxyz\r\n1\r\nmg foo\r\n", "HD\r\nHD\r\n"),
            case("4.1.6 T N R C E", "mg a T\r\nmg a Tx\r\nmg a N\r\nmg a R2147483648\r\nmg a C\r\nmg a C-1\r\nmd a E+1\r\n", BAD_TOKEN.repeat(7)),
            case("4.1.6 T in ms is swallowed", "ms a 1 Tx\r\n1\r\nms a 1 T\r\n1\r\nms a 1 Nx\r\n1\r\n", BAD_TOKEN.repeat(3)),
            case("4.1.6 F", "ms a 1 Fx\r\n1\r\nms a 1 F4294967296\r\n1\r\nmg a F\r\n", BAD_LINE.repeat(3)),
            case("4.1.6 ma has one text", "ma a Tx\r\nma a Nx\r\nma a Cx\r\nma a Dx\r\nma a Jx\r\nma a Fx\r\n", BAD_MA.repeat(6)),
            case("4.1.6 a duplicate ends the scan", "mg a Tx v v Fx\r\n", DUPLICATE),
            case("4.1.6 the last one decides", "mg a Tx Fx\r\nmg a Fx Tx\r\n", format!("{BAD_LINE}{BAD_TOKEN}")),
            case("4.1.7 31 bytes of opaque", format!("mg a {}\r\n", opaque(31)), format!("EN {}\r\n", opaque(31))),
            case("4.1.7 32 bytes of opaque", format!("mg a {}\r\nmd a {0}\r\nma a {0}\r\n", opaque(32)), "CLIENT_ERROR opaque token too long\r\n".repeat(3)),
            case("4.1.7 32 bytes of opaque in ms", format!("ms a 1 {}\r\n1\r\n", opaque(32)), "CLIENT_ERROR opaque token too long\r\n"),
            case("4.1.7 comes behind other errors", format!("mg a {0} Tx\r\nmg a Tx {0}\r\n", opaque(32)), BAD_TOKEN.repeat(2)),
            case("4.1.7 an empty opaque", "mg a O\r\nms a 1 O\r\n1\r\nmg a O\r\nmd a O\r\nma a O\r\n", "EN O\r\nHD O\r\nHD O\r\nHD O\r\nNF O\r\n"),
            case("4.1.8 P and L", "ms a 1 Pfoo L\r\n1\r\nmg a P L123 v\r\n", "HD\r\nVA 1\r\n1\r\n"),
            case("4.1.9 k in base64 as it was stored", "ms Zm9v 1 b\r\n1\r\nmg foo k\r\nmg Zm9v b k O1\r\nmg foo O1\r\nmg Zm9v k O1 b\r\n", "HD\r\nHD kZm9v b\r\nHD kZm9v b O1\r\nHD O1\r\nHD kZm9v b O1\r\n"),
            case("4.1.9 k of an item stored plainly", "set foo 0 0 1\r\n1\r\nmg Zm9v b k\r\nmg foo k\r\n", "STORED\r\nHD kfoo\r\nHD kfoo\r\n"),
            case("4.1.9 k of a miss", "mg Zm9v b k\r\nmg foo k\r\nmg Zm9v O1 b\r\n", "EN kZm9v b\r\nEN kfoo\r\nEN O1\r\n"),
            case("4.1.9 k of the others is the request's", "ms Zm9v 1 b k\r\n1\r\nma foo k\r\nma Zm9v k b\r\nmd Zm9v b k I\r\nmd foo k I\r\nmd bm9wZQ== b k\r\n", "HD kZm9v b\r\nHD kfoo\r\nHD kZm9v b\r\nHD kZm9v b\r\nHD kfoo\r\nNF kbm9wZQ== b\r\n"),
            case("4.1.9 of what is made on a miss", "mg Zm9v b N0\r\nmg foo k\r\nma YmFy b N0\r\nmg bar k v\r\n", "HD W\r\nHD kZm9v b Z\r\nHD\r\nVA 1 kYmFy b\r\n0\r\n"),
            case("28.9 the item remembers", "ms Zm9v 1 b\r\n1\r\nmg foo k v\r\nms foo 1\r\n1\r\nmg Zm9v b k\r\n", "HD\r\nVA 1 kZm9v b\r\n1\r\nHD\r\nHD kfoo\r\n"),
            case("28.9 a key that only base64 can say", "ms AGEKYg== 1 b\r\n1\r\nmg AGEKYg== b k\r\nma AGEKYg== b D99 v\r\nmg AGEKYg== b k v\r\n", "HD\r\nHD kAGEKYg== b\r\nVA 3\r\n100\r\nVA 3 kAGEKYg== b\r\n100\r\n"),
            case("4.1.10 foo and Zm9v b are the same item", "set foo 3 0 1\r\n1\r\nmg Zm9v b v f\r\nms Zm9v 1 b\r\n2\r\nget foo\r\n", "STORED\r\nVA 1 f3\r\n1\r\nHD\r\nVALUE foo 0 1\r\n2\r\nEND\r\n"),
            case("4.1.10 250 bytes of base64", format!("ms {} 1 b\r\n1\r\nmg {0} b v\r\n", "Zm9v".repeat(62)), "HD\r\nVA 1\r\n1\r\n"),
            case("4.1.10 251 bytes of base64", format!("mg {} b\r\nmd {0}= b\r\n", "Zm9v".repeat(63)), BAD_LINE.repeat(2)),
            case("4.1.10 not base64", "mg a b\r\nmg !!! b\r\nmd Zm9 b\r\nmg Z=== b\r\nmg ==== b\r\n", BAD_BASE64.repeat(5)),
            case("4.1.10 not base64 in ms", "ms a 3 b\r\nfoo\r\n", BAD_BASE64),
            case("4.1.10 not base64 in ma", "ma a b\r\n", BAD_MA),
            case("4.1.10 junk is skipped", "ms Zm9v! 1 b\r\n1\r\nmg foo k\r\n", "HD\r\nHD kZm9v b\r\n"),
            case("4.1.10 padding ends it", "mg Zg==Zg== b k\r\n", "EN kZg== b\r\n"),
            case("4.1.10 flags before decoding", "mg !!! b z\r\n", BAD_FLAG),
            case("4.1.10 beside classic commands", "set foo 0 0 1\r\n1\r\nget foo bar\r\nmg Zm9v b v\r\nget foo\r\ndelete foo\r\n", "STORED\r\nVALUE foo 0 1\r\n1\r\nEND\r\nVA 1\r\n1\r\nVALUE foo 0 1\r\n1\r\nEND\r\nDELETED\r\n"),
            case("4.1.11 errors are not quiet", "mg a q z\r\nms a 1 q z\r\n1\r\nmd a q z\r\nma a q z\r\n", format!("{}{BAD_MA}", BAD_FLAG.repeat(3))),
            case("4.1.12 mn", "mn\r\nmn foo bar\r\n", "MN\r\nMN\r\n"),
            case("2.1 a key of 250", format!("ms {0} 1 T0\r\n1\r\nmg {0} v\r\nma {0}\r\nmd {0}\r\n", key(250)), "HD\r\nVA 1\r\n1\r\nHD\r\nHD\r\n"),
            case("2.1 a key of 251", format!("mg {0} v\r\nmd {0}\r\nme {0}\r\nms {0} 1\r\n1\r\n", key(251)), BAD_LINE.repeat(4)),
            case("2.1 a key of 251 in ma", format!("ma {}\r\n", key(251)), BAD_MA),
            case("2.3 numbers of meta flags", "ms a 1 C00000000000000000000001\r\n1\r\nms a 1 F000000000001\r\n1\r\nms a 1 F00000000001\r\n1\r\n", format!("{BAD_TOKEN}{BAD_LINE}HD\r\n")),
            case("2.6 T follows the rules of exptime", "ms a 1 T-1\r\n1\r\nmg a\r\nms a 1 T2592001\r\n1\r\nmg a\r\nms a 1 T2592000\r\n1\r\nmg a t\r\n", "HD\r\nEN\r\nHD\r\nEN\r\nHD\r\nHD t2592000\r\n"),
            case("5.4 noreply is no meta flag", "mg k noreply\r\n", BAD_FLAG),
        ],
    )]
}

rows! {
    common_rules:
    row_1_2 = "1.2",
    row_1_6 = "1.6",
    row_1_3 = "1.3",
    row_1_4 = "1.4",
    row_1_5 = "1.5",
    row_1_9 = "1.9",
    row_4_1_1 = "4.1.1",
    row_4_1_2 = "4.1.2",
    row_4_1_3 = "4.1.3",
    row_4_1_4 = "4.1.4",
    row_4_1_5 = "4.1.5",
    row_4_1_6 = "4.1.6",
    row_4_1_7 = "4.1.7",
    row_4_1_8 = "4.1.8",
    row_4_1_9 = "4.1.9",
    row_28_9 = "28.9",
    row_4_1_10 = "4.1.10",
    row_4_1_11 = "4.1.11",
    row_4_1_12 = "4.1.12",
    row_2_1 = "2.1",
    row_2_3 = "2.3",
    row_2_6 = "2.6",
    row_5_4 = "5.4",
}

#[rustfmt::skip] // a table: one row a line
fn meta_get() -> Table {
    vec![(
        config(),
        vec![
            case("4.2 a miss", "mg a\r\nmg a v s f c t h l\r\nmg a k Oab\r\nmg a Oab k\r\n", "EN\r\nEN\r\nEN ka Oab\r\nEN Oab ka\r\n"),
            case("4.2 a hit without v", "set a 5 0 2\r\n11\r\nmg a\r\nmg a s\r\n", "STORED\r\nHD\r\nHD s2\r\n"),
            case("4.2 every return flag", "set a 5 0 2\r\n11\r\nmg a s v k t O9 f h l c\r\n", "STORED\r\nVA 2 s2 ka t-1 O9 f5 h0 l{n} c{n}\r\n11\r\n"),
            case("28.8 in the order of the request", "set a 5 0 2\r\n11\r\nmg a v f s k\r\nmg a k s f v\r\n", "STORED\r\nVA 2 f5 s2 ka\r\n11\r\nVA 2 ka s2 f5\r\n11\r\n"),
            case("4.2 an empty value", "set a 0 0 0\r\n\r\nmg a v\r\n", "STORED\r\nVA 0\r\n\r\n"),
            case("4.2 h", "set a 0 0 1\r\n1\r\nmg a h\r\nmg a h\r\nset a 0 0 1\r\n1\r\nmg a h\r\n", "STORED\r\nHD h0\r\nHD h1\r\nSTORED\r\nHD h0\r\n"),
            case("4.2 h after a failed add", "set a 0 0 1\r\n1\r\nadd a 0 0 1\r\n1\r\nms a 1 ME\r\n1\r\nmg a h\r\n", "STORED\r\nNOT_STORED\r\nNS\r\nHD h0\r\n"),
            case("4.2 h after a classic get", "set a 0 0 1\r\n1\r\nget a\r\nmg a h\r\n", "STORED\r\nVALUE a 0 1\r\n1\r\nEND\r\nHD h1\r\n"),
            case("4.2 h after touch", "set a 0 0 1\r\n1\r\ntouch a 0\r\nmg a h\r\n", "STORED\r\nTOUCHED\r\nHD h1\r\n"),
            case("4.2 u leaves no mark", "set a 0 0 1\r\n1\r\nmg a u h v\r\nmg a u\r\nmg a h\r\n", "STORED\r\nVA 1 h0\r\n1\r\nHD\r\nHD h0\r\n"),
            case("4.2 q hides a miss only", "mg a q\r\nmg a q k v O1\r\nset a 0 0 1\r\n1\r\nmg a q\r\nmg a q v\r\n", "STORED\r\nHD\r\nVA 1\r\n1\r\n"),
            case("4.2 q shows a vivify", "mg a q N0 v\r\n", "VA 0 W\r\n\r\n"),
            case("4.2 C equal leaves the value out", "ms a 1 E77\r\n1\r\nmg a v C77 s c\r\nmg a C77 v\r\n", "HD\r\nHD s1 c77\r\nHD\r\n"),
            case("4.2 C different does not", "ms a 1 E77\r\n1\r\nmg a v C76 s\r\nmg a v C0\r\n", "HD\r\nVA 1 s1\r\n1\r\nVA 1\r\n1\r\n"),
            case("4.2 T", "set a 0 0 1\r\n1\r\nmg a T50\r\nmg a t\r\nmg a T0\r\nmg a t\r\n", "STORED\r\nHD\r\nHD t50\r\nHD\r\nHD t-1\r\n"),
            case("28.8 t before and behind T", "set a 0 100 1\r\n1\r\nmg a t T50\r\nmg a T70 t\r\nmg a t\r\n", "STORED\r\nHD t100\r\nHD t70\r\nHD t70\r\n"),
            case("4.2 T into the past answers once", "set a 0 0 1\r\n1\r\nmg a T-1 v\r\nmg a\r\n", "STORED\r\nVA 1\r\n1\r\nEN\r\n"),
            case("2.9 t of what is over", "set a 0 0 1\r\n1\r\nmg a T-1 t\r\nmg b N-1 t\r\n", "STORED\r\nHD t0\r\nHD t0 W\r\n"),
            case("4.2 N", "mg a N30 t v k\r\nmg a N30 t v k\r\nmg a v\r\n", "VA 0 t30 ka W\r\n\r\nVA 0 t30 ka Z\r\n\r\nVA 0 Z\r\n\r\n"),
            case("3.3 N makes a real item", "mg a N0\r\nget a\r\nadd a 0 0 1\r\n1\r\nset a 0 0 1\r\n1\r\nmg a v\r\n", "HD W\r\nVALUE a 0 0\r\n\r\nEND\r\nNOT_STORED\r\nSTORED\r\nVA 1\r\n1\r\n"),
            case("4.2 N0 has no end, N-1 has been", "mg a N0 t\r\nmg b N-1 v\r\nmg b\r\n", "HD t-1 W\r\nVA 0 W\r\n\r\nEN\r\n"),
            case("4.2 N on a hit", "set a 0 100 1\r\n1\r\nmg a N5 t\r\n", "STORED\r\nHD t100\r\n"),
            case("4.2 N and T", "mg a N10 t T30\r\nmg a t\r\nmg b N10 T30 t\r\n", "HD t10 W\r\nHD t30 Z\r\nHD t30 W\r\n"),
            case("4.2 N and E", "mg a N0 E99 c\r\nmg a c\r\nmg a E5 c\r\n", "HD c99 W\r\nHD c99 Z\r\nHD c99 Z\r\n"),
            case("4.2 R", "set a 0 50 1\r\n1\r\nmg a R0 t\r\nmg a R-1\r\nmg a R50 t\r\nmg a R51 t\r\nmg a R51 t\r\nmg a\r\n", "STORED\r\nHD t50\r\nHD\r\nHD t50\r\nHD t50 W\r\nHD t50 Z\r\nHD Z\r\n"),
            case("4.2 R of an item without end", "set a 0 0 1\r\n1\r\nmg a R1000\r\n", "STORED\r\nHD\r\n"),
            case("4.2 R of what was just made", "mg a N10 R30 t\r\n", "HD t10 W\r\n"),
            case("4.2 R behind T", "set a 0 500 1\r\n1\r\nmg a T50 R200 t\r\nset a 0 50 1\r\n1\r\nmg a T500 R200 t\r\n", "STORED\r\nHD t50 W\r\nSTORED\r\nHD t500\r\n"),
            case("4.2 R before T", "set a 0 500 1\r\n1\r\nmg a R200 T50 t\r\nset a 0 50 1\r\n1\r\nmg a R200 T500 t\r\n", "STORED\r\nHD t50\r\nSTORED\r\nHD t500 W\r\n"),
            case("28.7 Z X W in this order", "set a 0 0 1\r\n1\r\nmd a I\r\nmg a v s\r\nmg a\r\nmg a R1\r\n", "STORED\r\nHD\r\nVA 1 s1 X W\r\n1\r\nHD Z X\r\nHD Z X\r\n"),
            case("28.7 W of a stale item needs no flag", "set a 0 0 1\r\n1\r\nmd a I T30\r\nmg a k u t\r\nmg a k u\r\n", "STORED\r\nHD\r\nHD ka t30 X W\r\nHD ka Z X\r\n"),
            case("28.7 touch does not clear, plain get shows nothing", "set a 0 0 1\r\n1\r\nmd a I\r\ntouch a 50\r\ngat 60 a\r\nget a\r\nmg a t\r\n", "STORED\r\nHD\r\nTOUCHED\r\nVALUE a 0 1\r\n1\r\nEND\r\nVALUE a 0 1\r\n1\r\nEND\r\nHD t60 X W\r\n"),
            case("4.2 W X Z are shown to the quiet", "set a 0 0 1\r\n1\r\nmd a I\r\nmg a q u\r\nmg a q\r\n", "STORED\r\nHD\r\nHD X W\r\nHD Z X\r\n"),
            case("4.2 the marks go with the item", "set a 0 0 1\r\n1\r\nmd a I\r\nset a 0 0 1\r\n1\r\nmg a\r\nmd a I\r\nms a 1\r\n1\r\nmg a\r\nmd a I\r\nappend a 0 0 1\r\n1\r\nmg a\r\nmd a I\r\nreplace a 0 0 1\r\n1\r\nmg a\r\n", "STORED\r\nHD\r\nSTORED\r\nHD\r\nHD\r\nHD\r\nHD\r\nHD\r\nSTORED\r\nHD\r\nHD\r\nSTORED\r\nHD\r\n"),
            case("4.2 incr in place keeps them, growing does not", "set a 0 0 1\r\n9\r\nmd a I\r\nincr a 0\r\nmg a\r\nincr a 1\r\nmg a\r\n", "STORED\r\nHD\r\n9\r\nHD X W\r\n10\r\nHD\r\n"),
            case("4.2 md I lets another win", "set a 0 0 1\r\n1\r\nmd a I\r\nmg a\r\nmg a\r\nmd a I\r\nmg a\r\n", "STORED\r\nHD\r\nHD X W\r\nHD Z X\r\nHD\r\nHD X W\r\n"),
        ],
    )]
}

rows! {
    meta_get:
    row_4_2 = "4.2",
    row_28_8 = "28.8",
    row_2_9 = "2.9",
    row_3_3 = "3.3",
    row_28_7 = "28.7",
}

#[rustfmt::skip] // a table: one row a line
fn meta_set() -> Table {
    vec![(
        config(),
        vec![
            case("4.3 a plain set", "ms a 2\r\n11\r\nget a\r\n", "HD\r\nVALUE a 0 2\r\n11\r\nEND\r\n"),
            case("4.3 T and F", "ms a 2 T100 F4294967295\r\n11\r\nmg a t f\r\n", "HD\r\nHD t100 f4294967295\r\n"),
            case("4.3 MS", "ms a 1 MS\r\n1\r\nms a 1 MS\r\n2\r\nmg a v\r\n", "HD\r\nHD\r\nVA 1\r\n2\r\n"),
            case("4.3 ME", "ms a 1 ME\r\n1\r\nms a 1 ME k c s O1\r\n2\r\nmg a v\r\n", "HD\r\nNS ka c0 s0 O1\r\nVA 1\r\n1\r\n"),
            case("4.3 MR", "ms a 1 MR k\r\n1\r\nset a 0 0 1\r\n1\r\nms a 1 MR\r\n2\r\nmg a v\r\n", "NS ka\r\nSTORED\r\nHD\r\nVA 1\r\n2\r\n"),
            case("4.3 MA and MP", "ms a 1 MA\r\n1\r\nms a 1 T100 F7\r\n2\r\nms a 1 MA s T5 F9\r\n3\r\nms a 1 MP s\r\n1\r\nmg a v t f\r\n", "NS\r\nHD\r\nHD s2\r\nHD s3\r\nVA 3 t100 f7\r\n123\r\n"),
            case("4.3 other modes are swallowed", "ms a 7 M\r\nversion\r\nms a 1 Ms\r\n1\r\nms a 1 MX\r\n1\r\nms a 1 MI\r\n1\r\n", BAD_MS_MODE.repeat(4)),
            case("4.3 C equal, different, missing", "ms a 1 E77\r\n1\r\nms a 1 C76\r\n2\r\nms a 1 C77 c\r\n3\r\nms b 1 C77 k\r\n1\r\nmg a v\r\n", "HD\r\nEX\r\nHD c{n}\r\nNF kb\r\nVA 1\r\n3\r\n"),
            case("4.3 C in replace mode", "ms a 1 E77\r\n1\r\nms a 1 C76 MR\r\n2\r\nms a 1 C77 MR E78\r\n3\r\nms b 1 C77 MR\r\n1\r\nmg a v c\r\n", "HD\r\nEX\r\nHD\r\nNF\r\nVA 1 c78\r\n3\r\n"),
            case("4.3 C0 counts as present", "ms a 1 C0\r\n1\r\nms a 1\r\n1\r\nms a 1 C0\r\n2\r\nms a 1 C0 I\r\n2\r\nmg a v\r\n", "NF\r\nHD\r\nEX\r\nEX\r\nVA 1\r\n1\r\n"),
            case("4.3 C in append mode", "ms a 1 MA C5\r\n1\r\nms a 1 E77\r\n1\r\nms a 1 MA C76\r\n2\r\nms a 1 MP C77 E78 s c\r\n0\r\nmg a v\r\n", "NS\r\nHD\r\nEX\r\nHD s2 c78\r\nVA 2\r\n01\r\n"),
            case("4.3 C in add mode is ignored", "ms a 1 ME C5\r\n1\r\nms a 1 ME C5\r\n2\r\n", "HD\r\nNS\r\n"),
            case("28.8 EX shows c0", "ms a 1 E77\r\n1\r\nms a 1 C5 k c\r\n2\r\n", "HD\r\nEX ka c0\r\n"),
            case("4.3 E", "ms a 1 E77 c\r\n1\r\nms a 1 E5 c\r\n1\r\nmg a c\r\ngets a\r\nms a 1 c\r\n1\r\n", "HD c77\r\nHD c5\r\nHD c5\r\nVALUE a 0 1 5\r\n1\r\nEND\r\nHD c{n}\r\n"),
            case("4.3 E0 is absent", "ms a 1 E0\r\n1\r\nms a 1 C0\r\n1\r\n", "HD\r\nEX\r\n"),
            case("7 the largest id", "ms a 1 E18446744073709551615 c\r\n1\r\ncas a 0 0 1 18446744073709551615\r\n2\r\nmg a v\r\n", "HD c18446744073709551615\r\nSTORED\r\nVA 1\r\n2\r\n"),
            case("4.3 I with a lower C", "ms a 1 E77 T500\r\n1\r\nms a 1 I C5 T50 F3\r\n2\r\nmg a v t f\r\nms a 1 I C6 MR\r\n3\r\nmg a v\r\n", "HD\r\nHD\r\nVA 1 t500 f3 X W\r\n2\r\nHD\r\nVA 1 Z X\r\n3\r\n"),
            case("4.3 I with an equal or higher C", "ms a 1 E77\r\n1\r\nms a 1 I C78\r\n2\r\nms a 1 I C77\r\n3\r\nmg a v\r\n", "HD\r\nEX\r\nHD\r\nVA 1\r\n3\r\n"),
            case("4.3 I without C, or in another mode", "ms a 1 I E77\r\n1\r\nms a 1 I\r\n2\r\nmg a\r\nms a 1 MA I C1\r\n2\r\n", "HD\r\nHD\r\nHD\r\nEX\r\n"),
            case("4.3 N of append", "ms a 1 MA N100 T5 F3 s\r\n1\r\nms a 1 MA N5\r\n2\r\nmg a v t f\r\nms b 1 MP N0\r\n1\r\nmg b t\r\n", "HD s1\r\nHD\r\nVA 2 t100 f3\r\n12\r\nHD\r\nHD t-1\r\n"),
            case("4.3 N of set is ignored", "ms a 1 N100\r\n1\r\nmg a t\r\nms b 1 MR N100\r\n1\r\n", "HD\r\nHD t-1\r\nNS\r\n"),
            case("4.3 return flags", "ms a 2 k O5 s c f t v h\r\n11\r\nms a 2 s O5 k\r\n11\r\n", "HD ka O5 s2 c{n}\r\nHD s2 O5 ka\r\n"),
            case("28.3 q hides HD only", "ms a 1 q\r\n1\r\nms a 1 q ME\r\n1\r\nms a 1 q C5\r\n1\r\nms b 1 q C5 k\r\n1\r\nms b 1 q MA\r\n1\r\n", "NS\r\nEX\r\nNF kb\r\nNS\r\n"),
            case("5.5 a bad data chunk is not quiet", "ms a 1 q\r\n12\r\nmg a\r\n", format!("{BAD_CHUNK}{BAD_LINE}EN\r\n")),
            case("1.11 exactly bytes + 2 are consumed", "ms a 3\r\n12345version\r\n", format!("{BAD_CHUNK}{VERSION}")),
            case("1.11 a bad chunk with a key in base64", "ms Zm9v 3 b\r\n12345mg Zm9v b\r\nms Zm9v 1 b\r\n1\r\n", format!("{BAD_CHUNK}EN\r\nHD\r\n")),
            case("1.12 a bad datalen swallows nothing", "ms a x\r\nfoo\r\nms a -1\r\nfoo\r\nms a +1\r\nfoo\r\nms a S1\r\nfoo\r\nms a 2147483646\r\nfoo\r\n", format!("{BAD_LINE}ERROR\r\n").repeat(5)),
            case("1.12 a bad datalen comes before bad flags", "ms a x z\r\nfoo\r\n", format!("{BAD_LINE}ERROR\r\n")),
            case("1.12 bad flags are swallowed", "ms a 7 z\r\nversion\r\nms a 7 q q\r\nversion--mn\r\n", format!("{BAD_FLAG}{DUPLICATE}MN\r\n")),
            case("1.12 a bad key is swallowed", format!("ms {} 7\r\nversion\r\n", key(251)), BAD_LINE),
            case("28.1 swallowed when quiet", "ms a 7 q z\r\nversion\r\n", BAD_FLAG),
        ],
    )]
}

rows! {
    meta_set:
    row_4_3 = "4.3",
    row_28_8 = "28.8",
    row_7 = "7",
    row_28_3 = "28.3",
    row_5_5 = "5.5",
    row_1_11 = "1.11",
    row_1_12 = "1.12",
    row_28_1 = "28.1",
}

#[rustfmt::skip] // a table: one row a line
fn meta_delete() -> Table {
    vec![(
        config(),
        vec![
            case("4.4 delete", "md a\r\nset a 0 0 1\r\n1\r\nmd a\r\nmg a\r\n", "NF\r\nSTORED\r\nHD\r\nEN\r\n"),
            case("4.4 k and O", "md a k O1\r\nset a 0 0 1\r\n1\r\nmd a O1 k\r\n", "NF ka O1\r\nSTORED\r\nHD O1 ka\r\n"),
            case("4.4 q hides HD only", "md a q k\r\nset a 0 0 1\r\n1\r\nmd a q C5\r\nmd a q\r\nmg a\r\n", "NF ka\r\nSTORED\r\nEX\r\nEN\r\n"),
            case("4.4 C", "md a C5\r\nms a 1 E77\r\n1\r\nmd a C76 k\r\nmd a C0\r\nmd a C77\r\nmg a\r\n", "NF\r\nHD\r\nEX ka\r\nEX\r\nHD\r\nEN\r\n"),
            case("4.4 I marks, and gives a new id", "ms a 1 E77\r\n1\r\nmd a I\r\nms a 1 C77\r\n2\r\nget a\r\nmg a\r\n", "HD\r\nHD\r\nEX\r\nVALUE a 0 1\r\n1\r\nEND\r\nHD X W\r\n"),
            case("4.4 I with E", "ms a 1 E77\r\n1\r\nmd a I E78\r\nmg a c\r\nms a 1 C78\r\n2\r\nmg a v\r\n", "HD\r\nHD\r\nHD c78 X W\r\nHD\r\nVA 1\r\n2\r\n"),
            case("4.4 I with C", "ms a 1 E77\r\n1\r\nmd a I C78\r\nmg a\r\nmd a I C77\r\nmg a\r\n", "HD\r\nEX\r\nHD\r\nHD\r\nHD X W\r\n"),
            case("4.4 I with T", "ms a 1 T500\r\n1\r\nmd a I\r\nmg a t\r\nmd a I T30\r\nmg a t\r\nmd a I T0\r\nmg a t\r\n", "HD\r\nHD\r\nHD t500 X W\r\nHD\r\nHD t30 X W\r\nHD\r\nHD t-1 X W\r\n"),
            case("4.4 I of nothing", "md a I\r\nmd a x\r\n", "NF\r\nNF\r\n"),
            case("4.4 I keeps flags and h", "ms a 1 F5\r\n1\r\nmg a\r\nmd a I\r\nmg a f h\r\n", "HD\r\nHD\r\nHD\r\nHD f5 h1 X W\r\n"),
            case("4.4 T alone deletes", "ms a 1\r\n1\r\nmd a T5\r\nmg a\r\n", "HD\r\nHD\r\nEN\r\n"),
            case("4.4 x", "ms a 3 F5 T500 E77\r\n123\r\nmd a x\r\nmg a v f t c\r\n", "HD\r\nHD\r\nVA 0 f0 t-1 c77\r\n\r\n"),
            case("4.4 x with F T E", "ms a 3\r\n123\r\nmd a x F7 T30 E5\r\nmg a v f t c\r\nget a\r\n", "HD\r\nHD\r\nVA 0 f7 t30 c5\r\n\r\nVALUE a 7 0\r\n\r\nEND\r\n"),
            case("4.4 x with I", "ms a 3\r\n123\r\nmd a x I\r\nmg a v\r\nmg a\r\n", "HD\r\nHD\r\nVA 0 X W\r\n\r\nHD Z X\r\n"),
            case("4.4 x with C", "ms a 3 E77\r\n123\r\nmd a x C5\r\nmd a x C77 q\r\nmg a v\r\n", "HD\r\nEX\r\nVA 0\r\n\r\n"),
            case("4.4 x with a key in base64", "ms Zm9v 3 b\r\n123\r\nmd Zm9v x b k\r\nmg foo k v\r\n", "HD\r\nHD kZm9v b\r\nVA 0 kZm9v b\r\n\r\n"),
        ],
    )]
}

rows! {
    meta_delete:
    row_4_4 = "4.4",
}

#[rustfmt::skip] // a table: one row a line
fn meta_arithmetic() -> Table {
    vec![(
        config(),
        vec![
            case("4.5 incr by 1", "set a 0 0 1\r\n1\r\nma a\r\nma a v\r\n", "STORED\r\nHD\r\nVA 1\r\n3\r\n"),
            case("4.5 a missing key", "ma a\r\nma a v k O1 q\r\n", "NF\r\nNF ka O1\r\n"),
            case("4.5 modes", "set a 0 0 2\r\n10\r\nma a MI v\r\nma a M+ v\r\nma a MD v\r\nma a M- v\r\nma a Mincr v\r\n", format!("STORED\r\nVA 2\r\n11\r\nVA 2\r\n12\r\nVA 2\r\n11\r\nVA 2\r\n10\r\n{BAD_MA_MODE}")),
            case("4.5 only the first byte of a mode", "set a 0 0 1\r\n1\r\nma a MIncr v\r\n", "STORED\r\nVA 1\r\n2\r\n"),
            case("4.5 other modes", "ma a Mi\r\nma a Md\r\nma a MX\r\nma a M\r\n", BAD_MA_MODE.repeat(4)),
            case("4.5 D", "set a 0 0 2\r\n10\r\nma a D5 v\r\nma a MD D20 v\r\nma a D18446744073709551615 v\r\nma a v\r\n", "STORED\r\nVA 2\r\n15\r\nVA 1\r\n0\r\nVA 20\r\n18446744073709551615\r\nVA 1\r\n0\r\n"),
            case("28.4 the stored length stays", "set a 0 0 3\r\n100\r\nma a MD D95 v s\r\nget a\r\n", "STORED\r\nVA 1\r\n5\r\nVALUE a 0 3\r\n5  \r\nEND\r\n"),
            case("4.5 N and J", "ma a N0 J13 v t\r\nma a N0 J13 v\r\nma b N30 t v\r\nmg b t v\r\n", "VA 2 t-1\r\n13\r\nVA 2\r\n14\r\nVA 1 t30\r\n0\r\nVA 1 t30\r\n0\r\n"),
            case("4.5 J alone creates nothing", "ma a J13\r\n", "NF\r\n"),
            case("4.5 N and T", "ma a N10 J5 T100 t v\r\nmg a t\r\nma b N10 t T100\r\nmg b t\r\n", "VA 1 t100\r\n5\r\nHD t100\r\nHD t10\r\nHD t100\r\n"),
            case("4.5 what is made is not won", "ma a N0\r\nmg a\r\n", "HD\r\nHD\r\n"),
            case("4.5 T", "set a 0 100 1\r\n1\r\nma a t T50\r\nma a T70 t\r\nmg a t\r\nma a\r\nmg a t\r\n", "STORED\r\nHD t100\r\nHD t70\r\nHD t70\r\nHD\r\nHD t70\r\n"),
            case("4.5 C", "ms a 1 E77\r\n1\r\nma a C76\r\nma a C77 v c E78\r\nma a C0 v\r\nma b C5\r\n", "HD\r\nEX\r\nVA 1 c78\r\n2\r\nVA 1\r\n3\r\nNF\r\n"),
            case("4.5 E", "set a 0 0 1\r\n1\r\nma a E77 c\r\nma b N0 E78 c\r\nma a E0 c\r\n", "STORED\r\nHD c77\r\nHD c78\r\nHD c{n}\r\n"),
            case("4.5 return flags", "set a 5 0 1\r\n1\r\nma a t c k O1 f s h l v\r\n", "STORED\r\nVA 1 t-1 c{n} ka O1\r\n2\r\n"),
            case("4.5 q hides success only", "set a 0 0 1\r\n1\r\nma a q\r\nma a q v\r\nma a q C5\r\nma b q\r\nma b q N0\r\nma a v\r\n", "STORED\r\nEX\r\nNF\r\nVA 1\r\n4\r\n"),
            case("4.5 not a number", "set a 0 0 1\r\nx\r\nma a\r\nma a q\r\nma a C5\r\n", format!("STORED\r\n{NON_NUMERIC}{NON_NUMERIC}EX\r\n")),
            case("28.5 what is read as a number", "set a 0 0 7\r\n +5 abc\r\nma a v\r\n", "STORED\r\nVA 1\r\n6\r\n"),
            case("4.5 flags stay", "set a 7 0 1\r\n9\r\nma a\r\nmg a f v\r\n", "STORED\r\nHD\r\nVA 2 f7\r\n10\r\n"),
        ],
    )]
}

rows! {
    meta_arithmetic:
    row_4_5 = "4.5",
    row_28_4 = "28.4",
    row_28_5 = "28.5",
}

#[rustfmt::skip] // a table: one row a line
fn meta_debug_and_pipelines() -> Table {
    let quiet: String = (0..300).map(|n| format!("mg k{n} q v k\r\n")).collect();
    vec![(
        config(),
        vec![
            case("4.6 me", "set foo 0 0 3\r\nbar\r\nme foo\r\nmg foo\r\nme foo\r\n", "STORED\r\nME foo exp=-1 la={n} cas={n} fetch=no cls=1 size=65\r\nHD\r\nME foo exp=-1 la={n} cas={n} fetch=yes cls=1 size=65\r\n"),
            case("4.6 exp", "ms a 1 T100 F1 E77\r\n1\r\nme a\r\n", "HD\r\nME a exp=100 la={n} cas=77 fetch=no cls=1 size=65\r\n"),
            case("4.6 a miss", "me a\r\nme a k O1 q\r\n", "EN\r\nEN\r\n"),
            case("4.6 b", "ms Zm9v 3 b\r\nbar\r\nme Zm9v b\r\nme foo\r\nme Zm9v b x\r\nme Zm9v\r\nme !!! b\r\n", format!("HD\r\n{}EN\r\n{BAD_BASE64}", "ME Zm9v exp=-1 la={n} cas={n} fetch=no cls=1 size=65\r\n".repeat(3))),
            case("4.6 it wins nothing", "set a 0 0 1\r\n1\r\nmd a I\r\nme a\r\nmg a\r\n", "STORED\r\nHD\r\nME a exp=-1 la={n} cas={n} fetch=no cls=1 size=61\r\nHD X W\r\n"),
            case("4.1.12 a quiet pipeline closed by mn", format!("set k7 0 0 1\r\n7\r\nset k299 0 0 1\r\n9\r\n{quiet}mn\r\n"), "STORED\r\nSTORED\r\nVA 1 kk7\r\n7\r\nVA 1 kk299\r\n9\r\nMN\r\n").uncut(),
            case("4.1.12 quiet stores closed by mn", "ms a 1 q\r\n1\r\nms b 1 q\r\n2\r\nma a q\r\nmd b q\r\nmd c q\r\nmg a v q\r\nmg b q\r\nmn\r\n", "NF\r\nVA 1\r\n2\r\nMN\r\n"),
            case("4.7 every code", "mg a\r\nms a 1\r\n1\r\nmg a\r\nmg a v\r\nms a 1 ME\r\n1\r\nms a 1 C1\r\n1\r\nms b 1 C1\r\n1\r\nma a v\r\nma b\r\nma a C1\r\nmd a C1\r\nmd b\r\nmd a\r\nme a\r\nmn\r\n", "EN\r\nHD\r\nHD\r\nVA 1\r\n1\r\nNS\r\nEX\r\nNF\r\nVA 1\r\n2\r\nNF\r\nEX\r\nEX\r\nNF\r\nHD\r\nEN\r\nMN\r\n"),
            case("28.3 q for each command", "mg a q\r\nms a 1 q\r\n1\r\nma a q v\r\nmg a v q\r\nmd a q\r\nmd a q\r\nma a q\r\nms a 1 q MR\r\n1\r\nmn\r\n", "VA 1\r\n2\r\nNF\r\nNF\r\nNS\r\nMN\r\n"),
        ],
    )]
}

rows! {
    meta_debug_and_pipelines:
    row_4_6 = "4.6",
    row_4_1_12 = "4.1.12",
    row_28_3 = "28.3",
    row_4_7 = "4.7",
}

#[rustfmt::skip] // a table: one row a line
fn oversize_and_without_cas() -> Table {
    let most = 2048 - 60;
    let ms = |flags: &str, len: usize| format!("ms a {len}{flags}\r\n{}\r\n", "v".repeat(len));
    vec![(
        Config { item_bytes_max: 2048, ..config() },
        vec![
            case("6.1 the largest value", ms(" s", most), format!("HD s{most}\r\n")),
            case("6.1 one byte more", ms("", most + 1), TOO_LARGE),
            case("6.1 flags take four bytes", ms(" F1", most), TOO_LARGE),
            case("6.1 a quiet one is told too", ms(" q", most + 1), TOO_LARGE),
            case("6.1 a key in base64 counts decoded", ms(" b", most - 2).replace("ms a", "ms Zm9v"), "HD\r\n"),
            case("6.1 larger than any buffer", ms("", 100_000), TOO_LARGE).uncut(),
            case("6.2 set mode deletes the old item", format!("set a 0 0 1\r\n1\r\n{}mg a\r\n", ms("", most + 1)), format!("STORED\r\n{TOO_LARGE}EN\r\n")),
            case("6.2 with a key in base64 too", format!("set foo 0 0 1\r\n1\r\n{}mg foo\r\n", ms(" b", most + 1).replace("ms a", "ms Zm9v")), format!("STORED\r\n{TOO_LARGE}EN\r\n")),
            case("6.2 other modes keep it", format!("set a 0 0 1\r\n1\r\n{}{}mg a v\r\n", ms(" ME", most + 1), ms(" MA", most + 1)), format!("STORED\r\n{TOO_LARGE}{TOO_LARGE}VA 1\r\n1\r\n")),
            case("6.5 append to more than fits", format!("{}ms a 1 MA k\r\n1\r\nms a 1 MP\r\n1\r\n", ms("", most)), "HD\r\nNS ka\r\nNS\r\n"),
        ],
    ),
    (
        Config { cas: false, ..config() },
        vec![
            case("7 c shows 0", "ms a 1 c E77\r\n1\r\nmg a c\r\nma a c\r\nme a\r\n", "HD c0\r\nHD c0\r\nHD c0\r\nME a exp=-1 la={n} cas=0 fetch=yes cls=1 size=53\r\n"),
            case("7 ms C never matches", "ms a 1 C5\r\n1\r\nms a 1\r\n1\r\nms a 1 C5\r\n1\r\nms a 1 C0\r\n1\r\n", "NF\r\nHD\r\nEX\r\nEX\r\n"),
            case("7 md C0 deletes", "ms a 1\r\n1\r\nmd a C5\r\nmd a C0\r\nmg a\r\n", "HD\r\nEX\r\nHD\r\nEN\r\n"),
        ],
    )]
}

rows! {
    oversize_and_without_cas:
    row_6_1 = "6.1",
    row_6_2 = "6.2",
    row_6_5 = "6.5",
    row_7 = "7",
}

/// Around what fits into the read buffer with its line, what grows in steps, and what is large to the store (protocol 1.11, 4.3).
#[test]
fn values_of_every_size() {
    for len in [0, 1, 8190, 16_360, 16_370, 16_384, 32_768, 100_000, 1_000_000] {
        let value: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        let set = [format!("ms Zm9v {len} b k s F9 Oxyz q MS\r\n").as_bytes(), &value, b"\r\n"].concat();
        let input = [&set[..], b"mg foo v s k f O1\r\nmg foo s\r\nmn\r\n"].concat();
        let output = [
            format!("VA {len} s{len} kZm9v b f9 O1\r\n").as_bytes(),
            &value,
            format!("\r\nHD s{len}\r\nMN\r\n").as_bytes(),
        ]
        .concat();
        check(config(), vec![case("1.11 any size", input.clone(), output.clone()).uncut()]);
        let memory = Loopback::new(config(), Clock::manual(0).0).unwrap();
        for at in [1, 12, set.len() - len - 2, set.len() - 3, set.len() - 2, set.len() - 1, set.len() + 4] {
            let mut client = memory.another();
            let at = at.min(input.len());
            let answer = [client.send(&input[..at]), client.send(&input[at..])].concat();
            assert!(answer == output, "value of {len} bytes cut at {at}: {}", show(&answer));
        }
        let bad = [&set[..set.len() - 2], b"xxmn\r\n"].concat();
        assert_eq!(memory.another().send(&bad), [BAD_CHUNK.as_bytes(), b"MN\r\n"].concat());
        let loud = String::from_utf8_lossy(&set[..set.len() - len - 2]).replace(" q", "");
        let loud = [loud.as_bytes(), &value, b"\r\n"].concat();
        assert_eq!(memory.another().send(&loud), format!("HD kZm9v b s{len} Oxyz\r\n").into_bytes());
    }
}
