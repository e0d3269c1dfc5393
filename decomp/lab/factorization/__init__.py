"""Knowledge factorization (Yang, Ye and Wang, 2022): a teacher becomes one common and several task networks."""
