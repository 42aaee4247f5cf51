// Reads a plug-in's settings in C: a JSON object whose values are texts or lists of texts.
//
// What it makes is never freed: `configure` is called once, and every call starts from the memory that it left.
#ifndef WITGATE_SETTINGS_H
#define WITGATE_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  const char *key;
  // One for a text, any number for a list.
  const char **texts;
  size_t count;
  bool is_list;
} setting_t;

typedef struct {
  const char *at, *end;
} settings_reader_t;

static inline void settings_space(settings_reader_t *json) {
  while (json->at < json->end && memchr(" \t\r\n", *json->at, 4)) json->at++;
}

static inline bool settings_take(settings_reader_t *json, char expected) {
  settings_space(json);
  if (json->at == json->end || *json->at != expected) return false;
  json->at++;
  return true;
}

// A text, ended by zero; none where there is no text.
static inline const char *settings_text(settings_reader_t *json) {
  if (!settings_take(json, '"')) return NULL;
  char *text = malloc((size_t)(json->end - json->at) + 1), *to = text;
  if (!text) abort();
  while (json->at < json->end && *json->at != '"') {
    char c = *json->at++;
    if (c != '\\') {
      *to++ = c;
      continue;
    }
    if (json->at == json->end) return NULL;
    switch (c = *json->at++) {
    case 'b': *to++ = '\b'; break;
    case 'f': *to++ = '\f'; break;
    case 'n': *to++ = '\n'; break;
    case 'r': *to++ = '\r'; break;
    case 't': *to++ = '\t'; break;
    case '"': case '\\': case '/': *to++ = c; break;
    // The host writes control characters alone like this, and all else as it is.
    case 'u': {
      static const char digits[] = "0123456789abcdef";
      unsigned unit = 0;
      for (int i = 0; i < 4; i++) {
        if (json->at == json->end) return NULL;
        char digit = *json->at++;
        const char *found = memchr(digits, digit >= 'A' && digit <= 'F' ? digit + 32 : digit, 16);
        if (!found) return NULL;
        unit = unit * 16 + (unsigned)(found - digits);
      }
      if (unit == 0 || unit > 127) return NULL;
      *to++ = (char)unit;
      break;
    }
    default: return NULL;
    }
  }
  if (json->at == json->end) return NULL;
  json->at++;
  *to = 0;
  return text;
}

static inline bool settings_value(settings_reader_t *json, setting_t *setting) {
  setting->is_list = settings_take(json, '[');
  setting->count = 0;
  setting->texts = malloc(((size_t)(json->end - json->at) + 1) * sizeof *setting->texts);
  if (!setting->texts) abort();
  if (setting->is_list && settings_take(json, ']')) return true;
  do {
    const char *text = settings_text(json);
    if (!text) return false;
    setting->texts[setting->count++] = text;
  } while (setting->is_list && settings_take(json, ','));
  return !setting->is_list || settings_take(json, ']');
}

// How many settings there are, at most `max`; -1 where it is something else than texts and lists of texts.
static inline int settings_read(const char *json, size_t length, setting_t *settings, int max) {
  settings_reader_t reader = {json, json + length};
  int count = 0;
  if (!settings_take(&reader, '{')) return -1;
  if (settings_take(&reader, '}')) return 0;
  do {
    if (count == max) return -1;
    setting_t *setting = &settings[count++];
    setting->key = settings_text(&reader);
    if (!setting->key || !settings_take(&reader, ':') || !settings_value(&reader, setting)) return -1;
  } while (settings_take(&reader, ','));
  return settings_take(&reader, '}') ? count : -1;
}

#endif
