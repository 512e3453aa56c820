// A field of each kind that Thrift has.
namespace java org.amqproxy.kinds
namespace py kinds_thrift

enum Colour {
  RED = 1,
  BLUE = 2
}

struct Item {
  1: required i32 id,
  2: optional string name,
  3: optional Colour colour
}

struct Kinds {
  1: required bool a_bool,
  2: required i8 a_byte,
  3: required i16 an_i16,
  4: required i32 an_i32,
  5: required i64 an_i64,
  6: required double a_double,
  7: required string a_string,
  8: required binary some_bytes,
  9: optional Colour a_colour,
  10: optional list<bool> truths,
  11: optional list<i64> numbers,
  12: optional list<string> texts,
  13: optional list<binary> chunks,
  14: optional set<string> tags,
  15: optional set<i32> numbers_once,
  16: optional map<string, i64> number_by_text,
  17: optional map<i32, string> text_by_number,
  18: optional list<list<double>> matrix,
  19: optional Item item,
  20: optional list<Item> items,
  21: optional map<string, Item> item_by_name,
  22: optional map<string, list<map<i32, Item>>> deep,
  23: optional i32 with_default = 7,
  24: optional map<Colour, bool> truth_by_colour,
  300: optional i32 far_away
}

struct Tree {
  1: optional i32 value,
  2: optional Tree left,
  3: optional list<Tree> children,
  4: optional map<string, Tree> by_name
}

union Choice {
  1: i32 number,
  2: string text,
  3: Item item
}

exception Refused {
  1: required string reason
}

struct Empty {}

struct Chunk {
  1: optional binary content
}

// In Python it cannot be changed, and is read in another way.
struct Frozen {
  1: optional string name,
  2: optional list<i32> numbers,
  3: optional map<string, i32> by_name,
  4: optional Item item
} (python.immutable = "")

// Its field is required neither when it is written nor when it is read, as Thrift calls it.
struct Loose {
  1: i32 number
}

struct Holder {
  1: optional Choice choice,
  2: optional Refused refused,
  3: optional set<binary> chunks_once,
  4: optional map<binary, Loose> loose_by_bytes,
  5: optional list<set<i32>> sets,
  6: optional Frozen frozen
}
