"""What the tests of erasing share."""

import stored_rows

first, stored = stored_rows.first, stored_rows.stored
