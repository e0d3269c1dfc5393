"""Coded ResNeXt (Avranas and Kountouris, 2022): which branches serve which class is fixed beforehand."""
