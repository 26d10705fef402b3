#!/usr/bin/env python3
"""Is the number a prime?"""

import sys

number = int(sys.argv[1])
divisor = next((each for each in range(2, int(number**0.5) + 1) if number % each == 0), None)
print(f"{number} is a prime" if divisor is None else f"{number} = {divisor} x {number // divisor}")
